"""BEiT ViT-B/16: the second stage."""

_base_ = "_beit_second.py"

method = dict(mix_group=64)  # [C] start:48, images per GPU; nothing is mixed
backbone = dict(drop_path=0.1)  # [C] start:49
optim = dict(layer_decay=0.85)  # [C] start:49
