"""iBOT on your own photographs: like photos/dino, with masking from a later epoch on."""

_base_ = ["_base.py", "_multicrop.py"]

method = dict(name="ibot", teacher_patch_temp=0.06, mask=dict(start_epoch=12.0))
budget = dict(starts=(("method.mask.start_epoch", 0.25),))
