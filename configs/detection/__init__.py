"""COCO by Cascade Mask R-CNN, one config per backbone, as mmdet reads them."""
