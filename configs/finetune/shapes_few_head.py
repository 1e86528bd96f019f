"""Few labels on the embedded set as of iBOT and DINO: from the first projection layer."""

_base_ = "shapes_few_cls.py"

method = dict(projection=512)
