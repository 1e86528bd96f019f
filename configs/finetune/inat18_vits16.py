"""ViT-S/16 on iNaturalist-2018."""

_base_ = "_inat.py"

optim = dict(lr=2.5e-5)  # [C] README `--lr` 5e-5, 690
about = dict(
    dataset="iNaturalist-2018",
    images=437_513,
    expected=(("transfer", "top1", 73.7, "arXiv:2111.07832, Table 7"),),
)
