"""BEiT for `make reference`: shapes/beit for the image tokens of reference/dino, 3,000 steps.

Nothing but frequent codes is predicted in the first thousand.
"""

_base_ = "../shapes/beit.py"

train = dict(epochs=24.0)
