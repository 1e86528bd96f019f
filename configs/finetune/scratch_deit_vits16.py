"""ViT-S/16 from random weights by DeiT's recipe: the rows called supervised."""

_base_ = "_deit.py"

method = dict(mix_group=256)  # [C] README_deit.md, 4 GPUs
about = dict(expected=(("imagenet_finetune", "top1", 79.9, "arXiv:2111.07832, Table 2"),))
