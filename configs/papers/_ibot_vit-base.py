"""Settings of iBOT's ViT-B/16, from the released model's arguments."""

_base_ = "_ibot.py"

method = dict(
    norm_last_layer=True,  # [S]
    freeze_last_layer=3.0,  # [S]
    warmup_teacher_temp_epochs=50.0,  # [S]
    views=dict(
        global_scale=(0.32, 1.0),  # [S]
        local_scale=(0.05, 0.32),  # [S]
    ),
)
backbone = dict(name="vit_base")  # [P]
optim = dict(
    lr=7.5e-4,  # [S] x batch / 256; the paper says 5e-4 for all
    min_lr=2e-6,  # [S]
    clip=0.3,  # [S]
)
