"""BEiT for `make reference`: shapes/beit for 750 steps."""

_base_ = "../shapes/beit.py"

train = dict(epochs=6.0)
