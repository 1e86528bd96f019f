"""BEiT ViT-B/16 from ImageNet-1K weights, the paper's plain ViT with absolute positions."""

_base_ = "_beit_base.py"

rates = (2e-3, 3e-3, 4e-3, 5e-3)  # [P] the README has 4e-3 alone, for 22K weights
backbone = dict(positions="absolute")  # [C] beit/README.md:190 [P]
about = dict(expected=(("imagenet_finetune", "top1", 83.2, "arXiv:2106.08254, Table 1"),))
