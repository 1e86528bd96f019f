"""iBOT ViT-L/16 from ImageNet-22K weights; its recipe is not published, that of 1K is taken."""

_base_ = "in1k_ibot_vitl16.py"

about = dict(expected=(("imagenet_finetune", "top1", 86.6, "arXiv:2111.07832, Table 3"),))
