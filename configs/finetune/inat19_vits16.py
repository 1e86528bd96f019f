"""ViT-S/16 on iNaturalist-2019."""

_base_ = "_inat.py"

optim = dict(lr=1.25e-5)  # [C] README `--lr` 2.5e-5, 690
about = dict(
    dataset="iNaturalist-2019",
    images=265_213,
    expected=(("transfer", "top1", 78.5, "arXiv:2111.07832, Table 7"),),
)
