"""Settings of iBOT's ViT-L/16, from a single third-party copy of its arguments (not verified)."""

_base_ = "_ibot.py"

method = dict(
    norm_last_layer=True,  # [s]
    freeze_last_layer=3.0,  # [s]
    warmup_teacher_temp_epochs=50.0,  # ours: as ViT-B
)
backbone = dict(
    name="vit_large",  # [P]
    drop_path=0.2,  # [s]
)
optim = dict(
    lr=5e-4,  # [P] [s] x batch / 256
    min_lr=2e-4,  # [s]
    weight_decay_end=0.48,  # [s]
    clip=0.3,  # [s]
)
