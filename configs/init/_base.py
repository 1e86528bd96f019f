"""Settings that the recipes for starting from weights share: small steps from where they are.

`--init` sets the backbone, the normalisation, and the sizes of crops and heads as the weights have
them. The learning rate is below a tenth of that of photos/*, and the warm-up short. `budget` as in
photos/*, with a third of its images.
"""

backbone = dict(drop_path=0.0)
optim = dict(
    lr=1e-4,
    scale_lr=False,
    min_lr=1e-6,
    warmup_epochs=2.0,
    weight_decay=0.04,
    weight_decay_end=0.04,
    clip=3.0,
    clip_by="global",
)
train = dict(epochs=20.0, batch_size=32)
budget = dict(
    images=20_000,
    epochs=100.0,
    shares=(("optim.warmup_epochs", 0.1),),
    gpu=("budget.images=200000",),
)
run = dict(workers=1, log_every=20, save_every=200)
