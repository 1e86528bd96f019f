"""DINO in minutes on two CPU cores: few prototypes, no freeze, faster teacher than the paper's."""

_base_ = ["_base.py", "_multicrop.py"]

method = dict(name="dino")
