"""UPerNet on the embedded scenes: the papers' segmenter in a size for two CPU cores.

Its head has no batch norm: with it, 200 steps end with every pixel predicted as ground (learning
rates tried: 5e-4, 2e-3, 6e-3); without it, the classes are distinguished.
"""

_base_ = ["_upernet.py", "_shapes.py"]

width, steps, side = 32, 100, (128, 128)

model = dict(
    data_preprocessor=dict(size=side),
    backbone=dict(
        out_indices=(0, 1, 2, 3), drop_path=0.0, checkpointing=False, norm_cfg=dict(type="BN")
    ),
    decode_head=dict(in_channels=[128] * 4, channels=width, num_classes=11, norm_cfg=None),
    auxiliary_head=dict(in_channels=128, channels=width, num_classes=11, norm_cfg=None),
    test_cfg=dict(crop_size=side, stride=(85, 85)),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3), constructor="SSLLayerDecay", paramwise_cfg=dict(layer_decay=0.65)
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=10),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=steps),
]
