"""Training from scratch on any folder: the budget of the fine-tunings, no layer decay."""

_base_ = "_folder.py"

method = dict(head_scale=1.0)
optim = dict(layer_decay=1.0)
