"""Settings of iBOT's Swin-T, from the command in its README."""

_base_ = "_ibot.py"

method = dict(mask=dict(start_epoch=50.0))  # [C]
backbone = dict(
    name="swin_tiny",  # [C] [P]
    patch_size=4,  # [C]
    drop_path=0.1,  # [C] fixed by the official factory
)
train = dict(epochs=300.0)  # [C] [P]
