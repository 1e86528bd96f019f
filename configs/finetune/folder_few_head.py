"""Few labels of any folder as of iBOT and DINO: from the first projection layer."""

_base_ = "folder_few_cls.py"

method = dict(projection=2048)
