"""iBOT ViT-L/16 on ImageNet-22K, 50 epochs; only the epochs are published."""

_base_ = "_ibot_vit-large.py"  # ours: as on IN-1K

method = dict(warmup_teacher_temp_epochs=30.0)  # ours: 50 would leave nothing after it
data = dict(source="imagenet-22k")  # [P]
train = dict(epochs=50.0)  # [P]
about = dict(
    dataset="IN-22K",
    images=14_197_122,
    expected=(
        ("imagenet_knn", "top1", 72.9, "arXiv:2111.07832, Table 1"),
        ("imagenet_linear", "top1", 82.3, "arXiv:2111.07832, Table 1"),
        ("imagenet_finetune", "top1", 86.6, "arXiv:2111.07832, Table 3"),
    ),
    notes="but for data and epochs as on IN-1K (ours); the release holds the student",
)
