"""ViT-B/16 on iNaturalist-2018."""

_base_ = "_inat.py"

about = dict(
    dataset="iNaturalist-2018",
    images=437_513,
    expected=(("transfer", "top1", 74.6, "arXiv:2111.07832, Table 7"),),
)
