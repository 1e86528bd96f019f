"""iBOT ViT-B/16, 400 epochs, random masks: the second release."""

_base_ = "ibot_vit-base-p16_bs1024-coslr-400e_in1k.py"

method = dict(
    mask=dict(
        kind="random",  # [C] [S]
        ratios=((0.0, 0.0), (0.7, 0.05)),  # [S]
    ),
)
about = dict(
    expected=(
        ("imagenet_knn", "top1", 77.3, "bytedance/ibot@da316d8, README.md:171-182"),
        ("imagenet_linear", "top1", 79.8, "bytedance/ibot@da316d8, README.md:171-182"),
        ("imagenet_finetune", "top1", 84.1, "bytedance/ibot@da316d8, README.md:171-182"),
    ),
)
