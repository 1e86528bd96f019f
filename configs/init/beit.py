"""BEiT from weights (`pretrain --method beit --init SOURCE`); a tokenizer is trained first."""

_base_ = "_base.py"

needs = dict(tokenizer="train:photos/dvae")
method = dict(name="beit", views=dict(scale=(0.4, 1.0)))
optim = dict(no_decay=("pos_embed", "cls_token"))
