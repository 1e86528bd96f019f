"""iBOT ViT-S/16 with 1 % of the labels, end to end from the first projection layer."""

_base_ = "_semi.py"

data = dict(share=0.01)  # [C] README, SimCLRv2's list
about = dict(
    images=12_811,
    expected=(("imagenet_semisup", "top1", 61.9, "arXiv:2111.07832, Table 4"),),
)
