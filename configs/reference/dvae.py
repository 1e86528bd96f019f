"""The tokenizer of reference/beit: shapes/dvae for 250 steps."""

_base_ = "../shapes/dvae.py"

train = dict(epochs=2.0)
