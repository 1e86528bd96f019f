"""ViT-S/16 on CIFAR-100."""

_base_ = "_transfer.py"

about = dict(
    dataset="CIFAR-100",
    images=50_000,
    expected=(("transfer", "top1", 90.7, "arXiv:2111.07832, Table 7"),),
)
