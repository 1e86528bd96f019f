"""iBOT Swin-T with windows of 7, 300 epochs."""

_base_ = "_ibot_swin-tiny.py"

backbone = dict(window=7)  # [C] [P]
about = dict(
    expected=(
        ("imagenet_knn", "top1", 75.3, "arXiv:2111.07832, Table 1"),
        ("imagenet_linear", "top1", 78.6, "arXiv:2111.07832, Table 1"),
    ),
)
