"""iBOT ViT-B/16 from ImageNet-22K weights; its recipe is not published, that of 1K is taken."""

_base_ = "in1k_ibot_vitb16.py"

about = dict(expected=(("imagenet_finetune", "top1", 84.4, "arXiv:2111.07832, Table 3"),))
