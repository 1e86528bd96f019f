"""iBOT for `make reference`: shapes/ibot for 3,000 steps, masked patches from step 250 on."""

_base_ = "../shapes/ibot.py"

method = dict(mask=dict(start_epoch=2.0))
train = dict(epochs=24.0)
