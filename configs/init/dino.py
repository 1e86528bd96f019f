"""DINO from weights (`pretrain --method dino --init SOURCE`)."""

_base_ = ["_base.py", "_multicrop.py"]

method = dict(name="dino", out_dim=4096)
