"""BEiT ViT-L/16: the second stage."""

_base_ = "_beit_second.py"

method = dict(mix_group=32)  # [C] start:32, images per GPU; nothing is mixed
backbone = dict(drop_path=0.4)  # [C] start:33
optim = dict(layer_decay=0.9)  # [C] start:33
