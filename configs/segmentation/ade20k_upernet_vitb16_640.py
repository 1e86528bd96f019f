"""UPerNet with a ViT-B/16 on ADE20K, 640 pixels: the setting of BEiT's released segmenters.

BEiT publishes 53.6 mIoU, with pretraining on ImageNet-22K and fine-tuning on its labels in between.
"""

_base_ = ["_upernet.py", "_ade20k_640.py", "_runtime.py"]

model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(out_norm=False),  # BEiT's backbone does not normalise its feature maps
    decode_head=dict(in_channels=[768] * 4, channels=768),
    auxiliary_head=dict(in_channels=768),
    test_cfg=dict(crop_size=(640, 640), stride=(426, 426)),
)
# BEiT's and iBOT's config files at 640; BEiT's at 512 without fine-tuning has 7e-4 and .65
optim_wrapper = dict(
    optimizer=dict(lr=3e-5), constructor="SSLLayerDecay", paramwise_cfg=dict(layer_decay=0.9)
)
train_dataloader = dict(batch_size=2)
