"""ViT-B/16 from random weights by DeiT's recipe: the rows called supervised."""

_base_ = "_deit.py"

method = dict(mix_group=64)  # [C] README_deit.md, 16 GPUs
about = dict(expected=(("imagenet_finetune", "top1", 81.8, "arXiv:2111.07832, Table 2"),))
