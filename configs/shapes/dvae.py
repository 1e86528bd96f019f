"""A tokenizer of 8x8 codes for shapes/beit, in a minute on two CPU cores."""

_base_ = "_base.py"

method = dict(
    name="dvae",
    num_codes=64,  # so few that BEiT learns to predict them from context in 3,000 steps
    downsample=8,
    hidden_dim=128,
    views=dict(size=64, scale=(0.05, 0.5)),  # as of shapes/beit
)
train = dict(epochs=1.2)
