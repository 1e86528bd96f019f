"""A linear layer on frozen features of the embedded scenes, as in the papers."""

_base_ = ["_linear.py", "_shapes.py"]

steps, side = 150, (128, 128)

model = dict(
    data_preprocessor=dict(size=side),
    backbone=dict(out_indices=(0, 1, 2, 3)),
    decode_head=dict(in_channels=[128] * 4, channels=4 * 128, num_classes=11),
    test_cfg=dict(crop_size=side, stride=(85, 85)),
)
optim_wrapper = dict(optimizer=dict(lr=2e-2))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=10),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=steps),
]
