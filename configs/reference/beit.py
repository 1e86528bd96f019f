"""BEiT for `make reference`: shapes/beit for 9,000 steps, as many image tokens as reference/dino.

Hardly more than frequent codes is predicted in the first 700.
"""

_base_ = "../shapes/beit.py"

train = dict(epochs=72.0)
