"""What every published fine-tuning shares.

[C] numbers are lines of ibot/evaluation/classification_layer_decay/run_class_finetuning.py (beit's
file of that name, ibot/evaluation/eval_cls.py and deit/main.py have the same values); [P] are
papers, [I] issues, "ours" is what nobody published.
"""

method = dict(
    name="supervised",
    projection=None,  # [C] modeling_finetune.py:309
    head_std=0.02,  # [C] modeling_finetune.py, `_init_weights`
    smoothing=0.1,  # [C] 111
    mixup=0.8,  # [C] run.sh:182
    cutmix=1.0,  # [C] run.sh:183
    mix_probability=1.0,  # [C] 136
    mix_switch=0.5,  # [C] 138
    ema=0.0,  # [C] 71; eval_cls.py and deit/main.py track an average and never evaluate it
    views=dict(
        size=224,  # [C] 59
        scale=(0.08, 1.0),  # [C] timm's create_transform
        interpolation="bicubic",  # [C] 113
        flip=0.5,  # [C] timm's create_transform
        randaugment="rand-m9-mstd0.5-inc1",  # [C] 109; the colour jitter of 107 is not used with it
        erasing=0.25,  # [C] 120
        test_crop_ratio=0.875,  # [C] 283
    ),
)
backbone = dict(
    image_size=224,  # [C] 59
    drop_path=0.1,  # [C] 66
)
optim = dict(
    weight_decay=0.05,  # [C] 86
    weight_decay_end=0.05,  # [C] 88
    clip=None,  # [C] 82
    clip_by="global",  # [C] utils.py:347
    betas=(0.9, 0.999),  # [C] 80
)
train = dict(
    batch_size=1024,  # [C] 40, 8 GPUs
    repeats=1,  # [C] 323, a plain sampler
)
about = dict(dataset="ImageNet-1K", images=1_281_167)
