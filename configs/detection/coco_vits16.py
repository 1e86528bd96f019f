"""Cascade Mask R-CNN with a ViT-S/16 on COCO, 1x.

Expected of iBOT after 800 epochs: AP^b 49.4, AP^m 42.6 (paper, Table 6).
"""

_base_ = ["_coco_cascade.py"]

model = dict(backbone=dict(drop_path=0.1), neck=dict(in_channels=[384] * 4))
# README; .75 in the config file; the paper chooses among .65, .75, .8 and .9
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=32)  # 8 GPUs x 4
