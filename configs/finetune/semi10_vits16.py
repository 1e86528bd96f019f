"""iBOT ViT-S/16 with 10 % of the labels, end to end from the first projection layer."""

_base_ = "_semi.py"

data = dict(share=0.1)  # [C] README, SimCLRv2's list
about = dict(
    images=128_116,
    expected=(("imagenet_semisup", "top1", 75.1, "arXiv:2111.07832, Table 4"),),
)
