"""The COCO configs against the published values."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.config import Config

from sslbench.backbones.config import SIZES
from sslbench.benchmarks.dense.backbone import spread_taps
from sslbench.recipes.load import benchmark_configs
from tests.configs.reading import differences, load, pick

OPTIMIZER = {"type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05}
COMMON = {
    "default_scope": "mmdet",
    "model.type": "CascadeRCNN",
    "model.data_preprocessor.mean": (123.675, 116.28, 103.53),
    "model.data_preprocessor.std": (58.395, 57.12, 57.375),
    "model.data_preprocessor.bgr_to_rgb": True,
    "model.data_preprocessor.pad_size_divisor": 32,
    "model.data_preprocessor.pad_mask": True,
    "model.backbone.type": "SSLBackbone",
    "model.backbone.out_norm": False,
    "model.backbone.checkpointing": True,
    "model.backbone.norm_cfg.type": "SyncBN",
    "model.backbone.depth": "absent",  # nothing is left of the base's ResNet
    "model.neck.type": "FPN",
    "model.neck.out_channels": 256,
    "model.neck.num_outs": 5,
    "model.rpn_head.type": "Float32RPNHead",
    "model.rpn_head.anchor_generator.scales": [8],
    "model.rpn_head.anchor_generator.ratios": [0.5, 1.0, 2.0],
    "model.rpn_head.anchor_generator.strides": [4, 8, 16, 32, 64],
    "model.rpn_head.loss_cls.type": "CrossEntropyLoss",
    "model.rpn_head.loss_cls.use_sigmoid": True,
    "model.rpn_head.loss_cls.loss_weight": 1.0,
    "model.rpn_head.loss_bbox.type": "SmoothL1Loss",
    "model.rpn_head.loss_bbox.beta": 1 / 9,
    "model.rpn_head.loss_bbox.loss_weight": 1.0,
    "model.roi_head.num_stages": 3,
    "model.roi_head.stage_loss_weights": [1, 0.5, 0.25],
    "model.roi_head.bbox_roi_extractor.type": "Float32RoIExtractor",
    "model.roi_head.bbox_roi_extractor.roi_layer.output_size": 7,
    "model.roi_head.bbox_roi_extractor.roi_layer.sampling_ratio": 0,
    "model.roi_head.bbox_roi_extractor.featmap_strides": [4, 8, 16, 32],
    "model.roi_head.mask_roi_extractor.type": "Float32RoIExtractor",
    "model.roi_head.mask_roi_extractor.roi_layer.output_size": 14,
    "model.roi_head.mask_head.type": "FCNMaskHead",
    "model.roi_head.mask_head.num_convs": 4,
    "model.roi_head.mask_head.conv_out_channels": 256,
    "model.roi_head.mask_head.num_classes": 80,
    "model.roi_head.mask_head.loss_mask.loss_weight": 1.0,
    "model.train_cfg.rpn.assigner.pos_iou_thr": 0.7,
    "model.train_cfg.rpn.assigner.neg_iou_thr": 0.3,
    "model.train_cfg.rpn.sampler.num": 256,
    "model.train_cfg.rpn.sampler.pos_fraction": 0.5,
    "model.train_cfg.rpn_proposal.nms_pre": 2000,
    "model.train_cfg.rpn_proposal.max_per_img": 2000,
    "model.train_cfg.rpn_proposal.nms.iou_threshold": 0.7,
    "model.test_cfg.rpn.max_per_img": 1000,
    "model.test_cfg.rcnn.score_thr": 0.05,
    "model.test_cfg.rcnn.nms.iou_threshold": 0.5,
    "model.test_cfg.rcnn.max_per_img": 100,
    "train_dataloader.dataset.data_root": "data/coco/",
    "train_dataloader.dataset.ann_file": "annotations/instances_train2017.json",
    "train_dataloader.dataset.filter_cfg.filter_empty_gt": True,
    "test_dataloader.dataset.ann_file": "annotations/instances_val2017.json",
    "test_evaluator.metric": ["bbox", "segm"],
    "train_cfg.max_epochs": 12,
    "param_scheduler.0.type": "LinearLR",
    "param_scheduler.0.start_factor": 0.001,
    "param_scheduler.0.end": 500,
    "param_scheduler.0.by_epoch": False,
    "param_scheduler.1.type": "MultiStepLR",
    "param_scheduler.1.milestones": [8, 11],
    "param_scheduler.1.gamma": 0.1,
    "param_scheduler.1.by_epoch": True,
    "param_scheduler.2": "absent",
    "optim_wrapper.type": "PrecisionOptimWrapper",
    "optim_wrapper.constructor": "SSLLayerDecay",
    "optim_wrapper.paramwise_cfg.decay_positions": "absent",  # the default, as in the papers (T29)
    "optim_wrapper.clip_grad": None,
    "optim_wrapper.optimizer": OPTIMIZER,
}
STAGE = {
    "type": "Shared4Conv1FCBBoxHead",
    "conv_out_channels": 256,
    "fc_out_channels": 1024,
    "roi_feat_size": 7,
    "num_classes": 80,
    "norm_cfg.type": "SyncBN",
    "bbox_coder.target_means": [0, 0, 0, 0],
    "reg_class_agnostic": False,
    "reg_decoded_bbox": True,
    "loss_cls.type": "CrossEntropyLoss",
    "loss_cls.use_sigmoid": False,
    "loss_cls.loss_weight": 1.0,
    "loss_bbox.type": "GIoULoss",
    "loss_bbox.loss_weight": 10.0,
}
STAGES = [  # IoU threshold, spread of the box offsets
    (0.5, [0.1, 0.1, 0.2, 0.2]),
    (0.6, [0.05, 0.05, 0.1, 0.1]),
    (0.7, [0.033, 0.033, 0.067, 0.067]),
]
SIZED = {  # model, drop path, layer decay (README), images a GPU, images a step
    "coco_vits16": ("vit_small", 0.1, 0.8, 4, 32),
    "coco_vitb16": ("vit_base", 0.2, 0.75, 2, 16),
    "coco_vitti16": ("vit_tiny", 0.1, 0.8, 4, 32),  # as ViT-S
    "coco_vitl16": ("vit_large", 0.2, 0.85, 2, 16),  # CAE's
}
SWIN = "coco_swint"
OTHER: dict[str, dict[str, Any]] = {  # than COMMON
    "coco_vitl16": {"optim_wrapper.optimizer": OPTIMIZER | {"lr": 2e-4}},
    SWIN: {
        "optim_wrapper.constructor": "DefaultOptimWrapperConstructor",
        "model.backbone.checkpointing": False,
    },
}
SIDES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]


@pytest.fixture(scope="module", params=[*SIZED, SWIN])
def config(request) -> Config:
    return load("detection", request.param)


def test_every_published_config_is_in_the_tables() -> None:
    assert {n for n in benchmark_configs("detection") if n.startswith("coco")} == {
        *SIZED,
        SWIN,
    }


@pytest.mark.parametrize("name", [*SIZED, SWIN])
def test_common_values(name: str) -> None:
    assert differences(load("detection", name), COMMON | OTHER.get(name, {})) == {}


def test_stages_of_the_cascade(config: Config) -> None:
    for i, (iou, stds) in enumerate(STAGES):
        head = {f"model.roi_head.bbox_head.{i}.{key}": value for key, value in STAGE.items()}
        head[f"model.roi_head.bbox_head.{i}.bbox_coder.target_stds"] = stds
        train = f"model.train_cfg.rcnn.{i}"
        for name in ("pos_iou_thr", "neg_iou_thr", "min_pos_iou"):
            head[f"{train}.assigner.{name}"] = iou
        head |= {f"{train}.sampler.num": 512, f"{train}.sampler.pos_fraction": 0.25}
        head |= {f"{train}.mask_size": 28, f"{train}.assigner.match_low_quality": False}
        assert differences(config, head) == {}
    assert len(config.model.roi_head.bbox_head) == len(config.model.train_cfg.rcnn) == 3


@pytest.mark.parametrize("name", SIZED)
def test_values_of_each_size(name: str) -> None:
    model, drop_path, decay, images, total = SIZED[name]
    width, depth = SIZES[model][:2]
    expected: dict[str, Any] = {
        "model.neck.in_channels": [width] * 4,
        "model.backbone.out_indices": spread_taps(depth),
        "model.backbone.drop_path": drop_path,
        "optim_wrapper.paramwise_cfg.layer_decay": decay,
        "train_dataloader.batch_size": images,
        "auto_scale_lr.base_batch_size": total,
        "auto_scale_lr.enable": False,
    }
    assert differences(load("detection", name), expected) == {}


def test_values_of_swin() -> None:
    """iBOT's swin_small_giou_4conv1f_coco_3x.py."""
    expected: dict[str, Any] = {
        "model.neck.in_channels": [96, 192, 384, 768],
        "model.backbone.out_indices": (1, 3, 9, 11),
        "model.backbone.drop_path": 0.2,
        "model.backbone.checkpointing": False,
        "optim_wrapper.paramwise_cfg": {
            "custom_keys": {
                "relative_position_bias_table": {"decay_mult": 0.0},
                "norm": {"decay_mult": 0.0},
            }
        },
        "train_dataloader.batch_size": 2,
        "auto_scale_lr.base_batch_size": 16,
    }
    assert differences(load("detection", SWIN), expected) == {}


def test_training_images(config: Config) -> None:
    read, labels, flip, policy, pack = config.train_dataloader.dataset.pipeline
    assert [read.type, pack.type] == ["LoadImageFromFile", "PackDetInputs"]
    assert (labels.with_bbox, labels.with_mask, flip.prob) == (True, True, 0.5)
    assert policy.type == "RandomChoice" and "prob" not in policy  # both halves equally often
    (resize,), (small, crop, again) = policy.transforms
    assert [scale[0] for scale in resize.scales] == SIDES
    assert [scale[0] for scale in small.scales] == [400, 500, 600]
    assert again == resize
    for step in (resize, small):
        assert step.type == "RandomChoiceResize" and step.keep_ratio
        assert {scale[1] for scale in step.scales} == {1333}
    assert crop.crop_type == "absolute_range" and crop.crop_size == (384, 600)
    assert crop.allow_negative_crop


def test_test_images(config: Config) -> None:
    resize = pick(config, "test_dataloader.dataset.pipeline.1")
    assert (resize.type, resize.scale, resize.keep_ratio) == ("Resize", (1333, 800), True)
    assert config.test_dataloader.batch_size == 1
