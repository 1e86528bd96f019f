"""BEiT for `make reference`: shapes/beit for 3,000 steps, a third of reference/dino's image tokens.

Hardly more than frequent codes is predicted in the first 700.
"""

_base_ = "../shapes/beit.py"

train = dict(epochs=24.0)
