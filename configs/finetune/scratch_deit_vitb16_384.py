"""ViT-B/16 at 384 pixels, from the weights of `scratch_deit_vitb16`; [C] is README_deit.md:246."""

_base_ = "_deit.py"

method = dict(
    mix_group=32,  # [C]
    views=dict(
        size=384,  # [C]
        test_crop_ratio=0.875,  # [C] main.py:174
    ),
)
backbone = dict(
    image_size=384,  # [C]
    drop_path=0.0,  # [C] main.py:428, trained in evaluation mode
)
optim = dict(
    lr=2.5e-6,  # [C] 5e-6 per 512
    min_lr=5e-6,  # [C]
    weight_decay=1e-8,  # [C]
    weight_decay_end=1e-8,  # [C]
)
train = dict(
    epochs=30.0,  # [C]
    batch_size=512,  # [C] 16 x 32
)
about = dict(expected=(("imagenet_finetune", "top1", 83.1, "arXiv:2106.08254, Table 1"),))
