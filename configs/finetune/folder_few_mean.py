"""Few labels of any folder as of BEiT: the mean patch behind a new norm."""

_base_ = "folder_few_cls.py"

method = dict(token="mean", norm="new")
