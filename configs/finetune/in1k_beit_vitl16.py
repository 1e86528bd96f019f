"""BEiT ViT-L/16 from ImageNet-1K weights, the paper's plain ViT with absolute positions."""

_base_ = "_beit_large.py"

backbone = dict(positions="absolute")  # [C] beit/README.md:190 [P]
about = dict(expected=(("imagenet_finetune", "top1", 85.2, "arXiv:2106.08254, Table 1"),))
