"""iBOT ViT-B/16, 400 epochs, block masks."""

_base_ = "_ibot_vit-base.py"

train = dict(epochs=400.0)  # [P]
about = dict(
    expected=(
        ("imagenet_knn", "top1", 77.1, "arXiv:2111.07832, Table 1"),
        ("imagenet_linear", "top1", 79.5, "arXiv:2111.07832, Table 1"),
        ("imagenet_finetune", "top1", 84.0, "arXiv:2111.07832, Table 2"),
    ),
)
