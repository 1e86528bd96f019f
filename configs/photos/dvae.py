"""A tokenizer of 8x8 codes for photos/beit, trained on the same photographs."""

_base_ = "_base.py"

method = dict(
    name="dvae",
    num_codes=256,
    downsample=8,
    hidden_dim=128,
    views=dict(size=64, scale=(0.4, 1.0)),
)
budget = dict(images=16_000, gpu=("budget.images=80000", "budget.epochs=1000.0"))
