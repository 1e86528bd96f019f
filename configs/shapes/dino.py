"""DINO in minutes on two CPU cores: few prototypes, no freezing, a faster teacher."""

_base_ = ["_base.py", "_multicrop.py"]

method = dict(name="dino")
