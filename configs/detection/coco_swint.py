"""Cascade Mask R-CNN with a Swin-T on COCO, 1x.

Values of iBOT's `configs/cascade_rcnn/swin_small_giou_4conv1f_coco_3x.py`; no figure of iBOT's
Swin is published. Supervised: AP^b 48.1, AP^m 41.7 (paper, Table 6).
"""

_base_ = ["_coco_cascade.py"]

model = dict(
    backbone=dict(out_indices=(1, 3, 9, 11), drop_path=0.2, checkpointing=False),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
undecayed = dict(decay_mult=0.0)
optim_wrapper = dict(
    constructor="DefaultOptimWrapperConstructor",  # one learning rate for all layers
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=undecayed, norm=undecayed)),
)
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2
