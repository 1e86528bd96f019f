"""DINO ViT-S/8, 800 epochs: the released model as far as its arguments are known."""

_base_ = "_dino.py"

method = dict(
    norm_last_layer=False,  # ours: as ViT-S/16
    freeze_last_layer=1.0,  # [C]
    warmup_teacher_temp_epochs=30.0,  # [P]
    views=dict(
        global_scale=(0.4, 1.0),  # [S]
        local_scale=(0.05, 0.4),  # [S]
    ),
)
backbone = dict(
    name="vit_small",  # [P]
    patch_size=8,  # [P]
)
optim = dict(
    min_lr=1e-6,  # [S]
    clip=3.0,  # [S]
)
train = dict(
    epochs=800.0,  # [S]
    batch_size=1024,  # [I] 64 x 16, dino#104, which also advises against fp16 at patches of 8
)
about = dict(
    expected=(
        ("imagenet_knn", "top1", 78.3, "arXiv:2104.14294, Table 2"),
        ("imagenet_linear", "top1", 79.7, "arXiv:2104.14294, Table 2"),
    ),
)
