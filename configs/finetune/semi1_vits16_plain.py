"""iBOT ViT-S/16 with 1 % of the labels, end to end without a projection layer (Table 12)."""

_base_ = "semi1_vits16.py"

method = dict(projection=None)  # [C] 201, `--finetune_head_layer 0`
about = dict(expected=(("imagenet_semisup", "top1", 55.0, "arXiv:2111.07832, Table 12"),))
