"""Configs of mmdet for Cascade Mask R-CNN on COCO, one per backbone."""
