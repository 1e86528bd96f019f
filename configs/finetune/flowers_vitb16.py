"""ViT-B/16 on Flowers-102, trained on its training and validation images."""

_base_ = "_transfer.py"

about = dict(
    dataset="Flowers-102",
    images=2_040,
    expected=(("transfer", "top1", 98.9, "arXiv:2111.07832, Table 7"),),
)
