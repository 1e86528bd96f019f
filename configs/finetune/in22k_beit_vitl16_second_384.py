"""BEiT ViT-L/16 at 384 pixels, after `in22k_beit_vitl16_intermediate`."""

_base_ = "_beit_second_large.py"

method = dict(
    views=dict(
        size=384,  # [C] start:41
        test_crop_ratio=1.0,  # [C] datasets.py:160
    ),
)
backbone = dict(
    image_size=384,  # [C] start:41
    positions="relative",  # [C] 337
)
about = dict(
    expected=(
        (
            "imagenet_finetune",
            "top1",
            88.4,
            "microsoft/unilm@768a3c8, beit/README.md, fine-tuning table",
        ),
        ("imagenet_finetune", "top1", 88.4, "arXiv:2106.08254, Table 6"),
    ),
)
