"""DINO ViT-B/16 as its own authors fine-tuned it."""

_base_ = "_dino_deit.py"

about = dict(expected=(("imagenet_finetune", "top1", 82.8, "arXiv:2104.14294, Table 6"),))
