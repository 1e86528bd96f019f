"""DINO ViT-B/8, 300 epochs: the released model as far as its arguments are known."""

_base_ = "_dino.py"

method = dict(
    norm_last_layer=True,  # ours: as ViT-B/16
    freeze_last_layer=3.0,  # [S]
    warmup_teacher_temp=0.03,  # [S]
    warmup_teacher_temp_epochs=50.0,  # [S]
    views=dict(
        global_scale=(0.25, 1.0),  # ours: as ViT-B/16
        local_scale=(0.05, 0.25),  # ours: as ViT-B/16
    ),
)
backbone = dict(
    name="vit_base",  # [P]
    patch_size=8,  # [P]
)
optim = dict(
    lr=5e-4,  # [S] x batch / 256
    min_lr=2e-6,  # ours: as ViT-B/16
    clip=3.0,  # [S]
)
train = dict(epochs=300.0)  # [S]
about = dict(
    expected=(
        ("imagenet_knn", "top1", 77.4, "arXiv:2104.14294, Table 2"),
        ("imagenet_linear", "top1", 80.1, "arXiv:2104.14294, Table 2"),
    ),
)
