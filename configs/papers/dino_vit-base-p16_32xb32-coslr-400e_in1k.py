"""DINO ViT-B/16, 400 epochs: the released model."""

_base_ = "_dino.py"

method = dict(
    norm_last_layer=True,  # [S]
    freeze_last_layer=3.0,  # [S]
    warmup_teacher_temp_epochs=50.0,  # [S]
    views=dict(
        global_scale=(0.25, 1.0),  # [S]
        local_scale=(0.05, 0.25),  # [S]
    ),
)
backbone = dict(name="vit_base")  # [P]
optim = dict(
    lr=7.5e-4,  # [S] x batch / 256
    min_lr=2e-6,  # [S]
    clip=0.3,  # [S]
)
train = dict(epochs=400.0)  # [S]
about = dict(
    expected=(
        ("imagenet_knn", "top1", 76.1, "arXiv:2104.14294, Table 2"),
        ("imagenet_linear", "top1", 78.2, "arXiv:2104.14294, Table 2"),
    ),
)
