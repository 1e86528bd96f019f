"""DINO ViT-S/16 as iBOT's authors fine-tuned it, by iBOT's recipe (also their Table 11)."""

_base_ = "in1k_ibot_vits16.py"

about = dict(expected=(("imagenet_finetune", "top1", 82.0, "arXiv:2111.07832, Table 2"),))
