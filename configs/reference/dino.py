"""DINO for `make reference`: shapes/dino for 1,000 steps."""

_base_ = "../shapes/dino.py"

train = dict(epochs=8.0)
