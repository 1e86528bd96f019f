"""Training from scratch on the embedded set: the budget of the fine-tunings, no layer decay."""

_base_ = "_shapes.py"

method = dict(head_scale=1.0)
optim = dict(lr=1e-3, layer_decay=1.0)
