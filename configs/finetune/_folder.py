"""What the fine-tunings on any folder share: the papers' recipe, fitted to the number of images."""

method = dict(
    name="supervised",
    mix_group=2,  # any even batch
    head_scale=0.001,
    views=dict(scale=(0.35, 1.0)),
)
backbone = dict(drop_path=0.1)
optim = dict(
    lr=5e-4,
    scale_lr=False,
    min_lr=1e-6,
    warmup_epochs=1.0,
    weight_decay=0.05,
    weight_decay_end=0.05,
    no_decay=("pos_embed", "cls_token"),
    layer_decay=0.75,
    clip=None,
)
train = dict(epochs=50.0, batch_size=64)
run = dict(save_every=100)
budget = dict(
    images=20_000,
    epochs=50.0,
    batches=2,
    shares=(("optim.warmup_epochs", 0.1),),
    gpu=("budget.images=2000000", "budget.epochs=100", "train.batch_size=256"),
)
