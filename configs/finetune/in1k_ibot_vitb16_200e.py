"""iBOT ViT-B/16 for 200 epochs: row 8 of Table 11, which compares fine-tuning recipes."""

_base_ = "in1k_ibot_vitb16.py"

train = dict(epochs=200.0)  # [P]
about = dict(expected=(("imagenet_finetune", "top1", 83.2, "arXiv:2111.07832, Table 11"),))
