"""iBOT Swin-T with windows of 14, 300 epochs: the README's command."""

_base_ = "_ibot_swin-tiny.py"

backbone = dict(window=14)  # [C] [P]
train = dict(batch_size=1040)  # [C] 40 x 26; the paper says 1024
about = dict(
    expected=(
        ("imagenet_knn", "top1", 76.2, "arXiv:2111.07832, Table 1"),
        ("imagenet_linear", "top1", 79.3, "arXiv:2111.07832, Table 1"),
    ),
)
