"""What the fine-tunings on the embedded set share: 3 epochs, minutes on a CPU core."""

method = dict(
    name="supervised",
    mixup=0.0,
    cutmix=0.0,
    mix_group=64,
    head_scale=0.1,
    smoothing=0.1,
    views=dict(scale=(0.35, 1.0), randaugment="", jitter=0.4, erasing=0.0),
)
backbone = dict(drop_path=0.0)
optim = dict(
    lr=3e-3,
    scale_lr=False,
    min_lr=1e-6,
    warmup_epochs=0.5,
    weight_decay=0.05,
    weight_decay_end=0.05,
    no_decay=("pos_embed", "cls_token"),
    layer_decay=0.85,
    clip=None,
)
train = dict(epochs=3.0, batch_size=64)
run = dict(workers=1, log_every=20, save_every=200)
