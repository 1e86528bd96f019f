"""iBOT ViT-S/16 for 300 epochs: row 2 of Table 11, which compares fine-tuning recipes."""

_base_ = "in1k_ibot_vits16.py"

train = dict(epochs=300.0)  # [P]
about = dict(expected=(("imagenet_finetune", "top1", 82.3, "arXiv:2111.07832, Table 11"),))
