"""iBOT on one's own photographs: as photos/dino, the masked patches joining later."""

_base_ = ["_base.py", "_multicrop.py"]

method = dict(name="ibot", teacher_patch_temp=0.06, mask=dict(start_epoch=12.0))
budget = dict(starts=(("method.mask.start_epoch", 0.25),))
