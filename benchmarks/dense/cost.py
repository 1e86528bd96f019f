"""The work of training and testing a detector or segmenter, by its config.

FLOPs of heads are those of their widest convolutions and layers, two per multiply-add: within a
fifth of what Swin's authors give for mmdet's Cascade Mask R-CNN (745 billion multiply-adds at
1280 x 800) and mmseg's UPerNet (945 billion at 2048 x 512; arXiv:2103.14030, Tables 2 and 3).
"""

from __future__ import annotations

import torch
from mmengine.config import Config

from sslbench.benchmark import Cost
from sslbench.checkpoints.load import LoadedModel
from sslbench.data.dense import DenseData
from sslbench.data.scenes import ScenesConfig

START = 12.0  # seconds in which a process imports the libraries and builds the model


def run_cost(config: Config, model: LoadedModel, data: DenseData) -> Cost:
    """Training, backward passes included, and a test on the evaluated split: one GPU's share."""
    epochs, steps = config.train_cfg.get("max_epochs", 0), config.train_cfg.get("max_iters", 0)
    tested, gpus = data.test.count, max(1, torch.cuda.device_count())
    trained = epochs * data.train.count or steps * config.auto_scale_lr.base_batch_size
    pixels = _pixels(config)
    cells = pixels / min(4.0, model.backbone.patch_size / 4) ** 2  # of the finest map
    passes = pixels / model.image_size**2 / gpus  # images of the model's size, attention aside
    head = detector_flops if data.kind == "coco" else segmenter_flops
    flops = 3 * trained * head(config, cells, True) + tested * head(config, cells, False)
    frozen = config.model.backbone.get("frozen", False)
    return Cost(
        forward=(tested + frozen * trained) * passes,
        trained=(not frozen) * trained * passes,
        flops=flops / gpus,
        seconds=START,
    )


def _pixels(config: Config) -> float:
    """Pixels per image: those of a crop, or of a photograph (4:3) at the size of the test.

    A config that names no size takes images as they are, like that of the embedded scenes.
    """
    if size := config.model.data_preprocessor.get("size"):
        return float(size[0] * size[1])
    scales = [step["scale"] for step in config.test_dataloader.dataset.pipeline if "scale" in step]
    return 4 / 3 * min(scales[0]) ** 2 if scales else float(ScenesConfig().image_size ** 2)


def detector_flops(config: Config, cells: float, training: bool) -> float:
    """Of one image, forward: FPN and RPN, three stages of boxes, and masks."""
    heads, width = config.model.roi_head, config.model.neck.out_channels
    box, hidden = heads.bbox_head[0], heads.bbox_head[0].fc_out_channels
    convolutions = 4 if "4Conv" in box.type else 0
    if training:
        regions = config.model.train_cfg.rcnn[0].sampler.num
        masks = 3 * regions / 4
    else:
        regions = config.model.test_cfg.rpn.max_per_img
        masks = config.model.test_cfg.rcnn.max_per_img
    maps = 24 * width**2 * cells
    region = 49 * width * (9 * width * convolutions + hidden)
    mask = 9 * 196 * width**2 * heads.mask_head.num_convs
    return 2 * (maps + 3 * regions * region + masks * mask)


def segmenter_flops(config: Config, cells: float, training: bool) -> float:
    """Of one image, forward: UPerNet's 3 x 3 convolutions, most on the finest of its maps."""
    linear = not config.model.backbone.get("pyramid", True)
    width = 0 if linear else config.model.decode_head.channels
    return 2 * 50 * width**2 * cells
