"""Fine-tuning on any folder as of BEiT: the mean patch behind a new norm."""

_base_ = "_folder.py"

method = dict(token="mean", norm="new")
