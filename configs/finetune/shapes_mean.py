"""Fine-tuning on the embedded set as of BEiT: the mean patch behind a new norm."""

_base_ = "_shapes.py"

method = dict(token="mean", norm="new")
