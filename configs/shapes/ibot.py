"""iBOT in minutes on two CPU cores: like shapes/dino, with masking from a later epoch on."""

_base_ = ["_base.py", "_multicrop.py"]

method = dict(name="ibot", teacher_patch_temp=0.04, mask=dict(start_epoch=1.0))
