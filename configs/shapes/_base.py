"""Settings that the small recipes share: embedded dataset, 64-px ViT, minutes on two CPU cores."""

backbone = dict(name="vit_nano", patch_size=8, image_size=64, drop_path=0.0)
data = dict(source="shapes")
optim = dict(
    lr=1.5e-3,
    scale_lr=False,
    min_lr=1e-6,
    warmup_epochs=0.5,
    weight_decay=0.04,
    weight_decay_end=0.04,
    clip=3.0,
    clip_by="global",
)
train = dict(epochs=2.4, batch_size=64)
run = dict(workers=1, log_every=20, save_every=200)
