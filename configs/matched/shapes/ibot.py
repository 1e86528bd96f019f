"""iBOT at equal compute in minutes on two CPU cores: 2.4 epochs of 192 tokens per image."""

_base_ = "../../shapes/ibot.py"

train = dict(epochs=2.4)
