"""BEiT for `make reference`: shapes/beit for the image tokens of reference/dino, 3,000 steps.

Hardly more than frequent codes is predicted in the first 700.
"""

_base_ = "../shapes/beit.py"

train = dict(epochs=24.0)
