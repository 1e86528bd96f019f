"""BEiT ViT-L/16 at 224 pixels, after `in22k_beit_vitl16_intermediate`."""

_base_ = "_beit_second_large.py"

backbone = dict(positions="relative")  # [C] 337
about = dict(
    expected=(
        (
            "imagenet_finetune",
            "top1",
            87.4,
            "microsoft/unilm@768a3c8, beit/README.md, fine-tuning table",
        ),
    ),
)
