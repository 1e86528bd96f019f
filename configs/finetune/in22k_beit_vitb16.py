"""BEiT ViT-B/16 from self-supervised ImageNet-22K weights; every block gets the shared bias."""

_base_ = "_beit_base.py"

backbone = dict(positions="relative")  # [C] 337
about = dict(
    expected=(
        (
            "imagenet_finetune",
            "top1",
            83.7,
            "microsoft/unilm@768a3c8, beit/README.md, fine-tuning table",
        ),
        ("imagenet_finetune", "top1", 83.7, "arXiv:2111.07832, Table 3"),
    ),
)
