"""ViT-S/16 on CIFAR-10."""

_base_ = "_transfer.py"

about = dict(
    dataset="CIFAR-10",
    images=50_000,
    expected=(("transfer", "top1", 99.1, "arXiv:2111.07832, Table 7"),),
)
