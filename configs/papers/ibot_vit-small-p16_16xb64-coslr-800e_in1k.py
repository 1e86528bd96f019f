"""iBOT ViT-S/16, 800 epochs: the README's command."""

_base_ = "_ibot.py"

backbone = dict(name="vit_small")  # [C] [P]
train = dict(epochs=800.0)  # [C] [P]
about = dict(
    expected=(
        ("imagenet_knn", "top1", 75.2, "arXiv:2111.07832, Table 1"),
        ("imagenet_linear", "top1", 77.9, "arXiv:2111.07832, Table 1"),
        ("imagenet_finetune", "top1", 82.3, "arXiv:2111.07832, Table 2"),
    ),
)
