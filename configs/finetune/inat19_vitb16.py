"""ViT-B/16 on iNaturalist-2019."""

_base_ = "_inat.py"

about = dict(
    dataset="iNaturalist-2019",
    images=265_213,
    expected=(("transfer", "top1", 79.6, "arXiv:2111.07832, Table 7"),),
)
