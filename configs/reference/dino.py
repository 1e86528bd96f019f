"""DINO for `make reference`: shapes/dino for 3,000 steps."""

_base_ = "../shapes/dino.py"

train = dict(epochs=24.0)
