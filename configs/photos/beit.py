"""BEiT on your own photographs; by default it first trains its tokenizer on them."""

_base_ = "_base.py"

needs = dict(tokenizer="train:photos/dvae")
method = dict(name="beit", views=dict(size=64, token_size=64, scale=(0.4, 1.0)))
optim = dict(no_decay=("pos_embed", "cls_token"))
budget = dict(images=80_000, gpu=("budget.images=400000", "budget.epochs=1000.0"))
