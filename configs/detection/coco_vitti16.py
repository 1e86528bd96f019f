"""Cascade Mask R-CNN with a ViT-Ti/16 on COCO, 1x: ViT-S/16's recipe; no paper trains one."""

_base_ = ["coco_vits16.py"]

model = dict(neck=dict(in_channels=[192] * 4))
