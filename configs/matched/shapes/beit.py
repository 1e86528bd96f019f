"""BEiT at equal compute in minutes on two CPU cores: 7.2 epochs of 64 tokens per image."""

_base_ = "../../shapes/beit.py"

train = dict(epochs=7.2)
