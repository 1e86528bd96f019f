"""iBOT ViT-B/16 on ImageNet-22K, 80 epochs; only the epochs are published."""

_base_ = "_ibot_vit-base.py"  # ours: as on IN-1K

data = dict(source="imagenet-22k")  # [P]
train = dict(epochs=80.0)  # [P]
about = dict(
    dataset="IN-22K",
    images=14_197_122,
    expected=(
        ("imagenet_knn", "top1", 71.1, "arXiv:2111.07832, Table 15"),
        ("imagenet_linear", "top1", 79.0, "arXiv:2111.07832, Table 15"),
        ("imagenet_finetune", "top1", 84.4, "arXiv:2111.07832, Table 3"),
    ),
    notes="but for data and epochs as on IN-1K (ours); the release holds the student",
)
