"""iBOT from weights (`pretrain --method ibot --init SOURCE`), with masks from the start."""

_base_ = ["_base.py", "_multicrop.py"]

method = dict(name="ibot", out_dim=4096, teacher_patch_temp=0.07)
