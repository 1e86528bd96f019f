"""iBOT ViT-S/16 on ImageNet-22K, 160 epochs; only the epochs are published."""

_base_ = "_ibot.py"  # ours: as on IN-1K

backbone = dict(name="vit_small")  # [P]
data = dict(source="imagenet-22k")  # [P]
train = dict(epochs=160.0)  # [P]
about = dict(
    dataset="IN-22K",
    images=14_197_122,
    expected=(
        ("imagenet_knn", "top1", 69.3, "arXiv:2111.07832, Table 15"),
        ("imagenet_linear", "top1", 76.5, "arXiv:2111.07832, Table 15"),
    ),
    notes="but for data and epochs as on IN-1K (ours)",
)
