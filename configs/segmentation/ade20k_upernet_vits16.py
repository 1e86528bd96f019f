"""UPerNet with a ViT-S/16 on ADE20K, 512 pixels.

Expected of iBOT after 800 epochs: mIoU 45.4, mAcc 56.2 (paper, Tables 6 and 13).
"""

_base_ = ["_upernet.py", "_ade20k.py", "_runtime.py"]

model = dict(
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
)
# README and config file; the paper has a layer decay of .65 for all sizes
optim_wrapper = dict(
    optimizer=dict(lr=3e-5), constructor="SSLLayerDecay", paramwise_cfg=dict(layer_decay=0.9)
)
train_dataloader = dict(batch_size=4)
