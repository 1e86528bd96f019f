"""BEiT for `make reference`: shapes/beit for 1,250 steps."""

_base_ = "../shapes/beit.py"

train = dict(epochs=10.0)
