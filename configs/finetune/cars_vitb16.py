"""ViT-B/16 on Stanford-Cars."""

_base_ = "_transfer.py"

optim = dict(lr=3.75e-5)  # [C] run.sh:274, 690
about = dict(
    dataset="Stanford-Cars",
    images=8_144,
    expected=(("transfer", "top1", 94.3, "arXiv:2111.07832, Table 7"),),
)
