"""Cascade Mask R-CNN with a ViT-L/16 on COCO, 1x.

None of the three papers trains one; drop path, layer decay and learning rate are those of CAE's
ViT-L (`vit_large_giou_4conv1f_coco_maskrcnn_1x_...`), whose detection code is that of iBOT.
"""

_base_ = ["_coco_cascade.py"]

model = dict(
    backbone=dict(out_indices=(7, 11, 15, 23), drop_path=0.2), neck=dict(in_channels=[1024] * 4)
)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay=0.85))
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2
