"""DINO on your own photographs."""

_base_ = ["_base.py", "_multicrop.py"]

method = dict(name="dino")
