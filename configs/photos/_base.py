"""Settings that the recipes for your own photographs share: a 64-px ViT, minutes on two CPU cores.

Chosen on 600 of 720 photographs of flowers, evaluated on all 720. `budget` replaces epochs,
batch_size and warm-up according to the number of images. A GPU processes five times as many images;
larger networks and crops were not tried and can be set with --set.
"""

backbone = dict(name="vit_nano", patch_size=8, image_size=64, drop_path=0.0)
optim = dict(
    lr=1.5e-3,
    scale_lr=False,
    min_lr=1e-6,
    warmup_epochs=3.0,
    weight_decay=0.04,
    weight_decay_end=0.04,
    clip=3.0,
    clip_by="global",
)
train = dict(epochs=50.0, batch_size=32)
budget = dict(
    images=60_000,
    shares=(("optim.warmup_epochs", 0.06),),
    gpu=("budget.images=300000", "budget.epochs=1000.0"),
)
run = dict(workers=1, log_every=20, save_every=200)
