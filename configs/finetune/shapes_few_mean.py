"""Few labels on the embedded set as of BEiT: the mean patch behind a new norm."""

_base_ = "shapes_few_cls.py"

method = dict(token="mean", norm="new")
