"""iBOT in minutes on two CPU cores: as shapes/dino, the masked patches joining later."""

_base_ = ["_base.py", "_multicrop.py"]

method = dict(name="ibot", teacher_patch_temp=0.04, mask=dict(start_epoch=1.0))
