"""UPerNet with a ViT-L/16 on ADE20K, 512 pixels.

iBOT's config file; no figure is published.
"""

_base_ = ["_upernet.py", "_ade20k.py", "_runtime.py"]

model = dict(
    backbone=dict(out_indices=(7, 11, 15, 23), drop_path=0.2),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
)
# config file; the paper has a layer decay of .65 for all sizes
optim_wrapper = dict(
    optimizer=dict(lr=2e-5), constructor="SSLLayerDecay", paramwise_cfg=dict(layer_decay=0.95)
)
train_dataloader = dict(batch_size=2)
