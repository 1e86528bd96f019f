"""BEiT from weights (`pretrain --method beit --init SOURCE`); a tokenizer is trained first."""

_base_ = "_base.py"

needs = dict(tokenizer="train:photos/dvae")
init = dict(heads="new")  # a classifier of codes was made for the codes of another tokenizer
method = dict(name="beit", views=dict(scale=(0.4, 1.0)))
optim = dict(no_decay=("pos_embed", "cls_token"))
