"""The ADE20K configs against the published values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from sslbench.backbones.config import SIZES
from sslbench.benchmarks.dense.backbone import spread_taps
from sslbench.recipes.load import benchmark_configs
from tests.configs.reading import differences, load

COMMON = {
    "default_scope": "mmseg",
    "model.type": "EncoderDecoder",
    "model.data_preprocessor.type": "SegDataPreProcessor",
    "model.data_preprocessor.mean": (123.675, 116.28, 103.53),
    "model.data_preprocessor.std": (58.395, 57.12, 57.375),
    "model.data_preprocessor.bgr_to_rgb": True,
    "model.data_preprocessor.pad_val": 0,
    "model.data_preprocessor.seg_pad_val": 255,
    "model.backbone.type": "SSLBackbone",
    "model.backbone.depth": "absent",  # nothing is left of the base's ResNet
    "model.decode_head.num_classes": 150,
    "model.decode_head.in_index": [0, 1, 2, 3],
    "model.decode_head.align_corners": False,
    "model.decode_head.loss_decode.type": "CrossEntropyLoss",
    "model.decode_head.loss_decode.use_sigmoid": False,
    "model.decode_head.loss_decode.loss_weight": 1.0,
    "model.test_cfg.mode": "slide",
    "train_dataloader.dataset.type": "ADE20KDataset",
    "train_dataloader.dataset.data_root": "data/ade/ADEChallengeData2016",
    "train_dataloader.sampler.type": "InfiniteSampler",
    "test_evaluator.iou_metrics": ["mIoU"],
    "train_cfg.type": "IterBasedTrainLoop",
    "train_cfg.max_iters": 160000,
    "auto_scale_lr.base_batch_size": 16,
    "auto_scale_lr.enable": False,
    "param_scheduler": [
        {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False, "begin": 0, "end": 1500},
        {
            "type": "PolyLR",
            "power": 1.0,
            "eta_min": 0.0,
            "by_epoch": False,
            "begin": 0,
            "end": 160000,
        },
    ],
    "optimizer": None,
    "optim_wrapper.type": "PrecisionOptimWrapper",
    "optim_wrapper.clip_grad": None,
    "optim_wrapper.optimizer.type": "AdamW",
    "optim_wrapper.optimizer.betas": (0.9, 0.999),
    "optim_wrapper.optimizer.weight_decay": 0.05,
    "optim_wrapper.optimizer.momentum": "absent",
}
UPERNET = {
    "model.backbone.checkpointing": True,
    "model.backbone.norm_cfg.type": "SyncBN",
    "model.backbone.pyramid": "absent",  # the default: with a pyramid, trained
    "model.backbone.frozen": "absent",
    "model.decode_head.type": "UPerHead",
    "model.decode_head.pool_scales": (1, 2, 3, 6),
    "model.decode_head.dropout_ratio": 0.1,
    "model.decode_head.norm_cfg.type": "SyncBN",
    "model.auxiliary_head.type": "FCNHead",
    "model.auxiliary_head.in_index": 2,
    "model.auxiliary_head.channels": 256,
    "model.auxiliary_head.num_convs": 1,
    "model.auxiliary_head.concat_input": False,
    "model.auxiliary_head.dropout_ratio": 0.1,
    "model.auxiliary_head.num_classes": 150,
    "model.auxiliary_head.loss_decode.loss_weight": 0.4,
    "model.neck": "absent",
    "optim_wrapper.constructor": "SSLLayerDecay",
}
LINEAR = {
    "model.backbone.frozen": True,
    "model.backbone.pyramid": False,
    "model.backbone.out_norm": True,
    "model.backbone.drop_path": "absent",
    "model.decode_head.type": "FCNHead",
    "model.decode_head.input_transform": "resize_concat",
    "model.decode_head.num_convs": 0,
    "model.decode_head.concat_input": False,
    "model.decode_head.dropout_ratio": 0,
    "model.auxiliary_head": "absent",
    "model.neck": "absent",
    "optim_wrapper.constructor": "absent",  # no layer decay
    "optim_wrapper.optimizer.lr": 8e-4,
}
# model, crop, norm on taps, drop path, rate, layer decay
UPERNETS = {
    "ade20k_upernet_vits16": ("vit_small", 512, True, 0.1, 3e-5, 0.9),
    "ade20k_upernet_vitb16": ("vit_base", 512, True, 0.1, 8e-5, 0.65),
    "ade20k_upernet_vitl16": ("vit_large", 512, True, 0.2, 2e-5, 0.95),
    "ade20k_upernet_vitti16": ("vit_tiny", 512, True, 0.1, 3e-5, 0.9),  # as ViT-S
    "ade20k_upernet_vitb16_640": ("vit_base", 640, False, 0.1, 3e-5, 0.9),
}
LINEARS = {
    "ade20k_linear_vits16": "vit_small",
    "ade20k_linear_vitb16": "vit_base",
    "ade20k_linear_vitl16": "vit_large",
    "ade20k_linear_vitti16": "vit_tiny",
}
SWINS = {"ade20k_upernet_swint", "ade20k_linear_swint"}
TESTED_AT_SIX_SCALES = [name for name in UPERNETS if "vitti" not in name]  # figures are published
STRIDES = {512: 341, 640: 426}
SCALES = {512: [512, 512, 512, 640, 768, 896], 640: [640, 640, 640, 800, 960, 1120]}


def test_every_published_config_is_in_the_tables() -> None:
    names = {n for n in benchmark_configs("segmentation") if n.startswith("ade20k")}
    multi = {f"{name}_ms" for name in TESTED_AT_SIX_SCALES}
    assert names == {*UPERNETS, *LINEARS, *SWINS, *multi}


@pytest.mark.parametrize("name", UPERNETS)
def test_upernet(name: str) -> None:
    model, crop, norm, drop_path, rate, decay = UPERNETS[name]
    width, depth = SIZES[model][:2]
    sized: dict[str, Any] = {
        "model.backbone.out_indices": spread_taps(depth),
        "model.backbone.out_norm": norm,
        "model.backbone.drop_path": drop_path,
        "model.decode_head.in_channels": [width] * 4,
        "model.decode_head.channels": width,
        "model.auxiliary_head.in_channels": width,
        "optim_wrapper.optimizer.lr": rate,
        "optim_wrapper.paramwise_cfg.layer_decay": decay,
    }
    config = load("segmentation", name)
    assert differences(config, COMMON | UPERNET | sized) == {}
    assert config.auto_scale_lr.base_batch_size % config.train_dataloader.batch_size == 0
    check_sizes(config, crop)


@pytest.mark.parametrize("name", LINEARS)
def test_linear(name: str) -> None:
    """in_channels are the backbone's (iBOT's file for ViT-L has 512)."""
    width, depth = SIZES[LINEARS[name]][:2]
    sized: dict[str, Any] = {
        "model.backbone.out_indices": spread_taps(depth),
        "model.decode_head.in_channels": [width] * 4,
        "model.decode_head.channels": 4 * width,
    }
    config = load("segmentation", name)
    assert differences(config, COMMON | LINEAR | sized) == {}
    check_sizes(config, 512)


def test_swin() -> None:
    """mmseg's swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py."""
    maps = {
        "model.backbone.out_indices": (1, 3, 9, 11),
        "model.decode_head.in_channels": [96, 192, 384, 768],
    }
    upernet = UPERNET | {
        "model.backbone.checkpointing": False,
        "model.backbone.out_norm": False,
        "model.backbone.drop_path": 0.3,
        "model.decode_head.channels": 512,
        "model.auxiliary_head.in_channels": 384,
        "optim_wrapper.constructor": "absent",
        "optim_wrapper.optimizer.lr": 6e-5,
        "optim_wrapper.optimizer.weight_decay": 0.01,
        "optim_wrapper.paramwise_cfg.custom_keys": {
            "relative_position_bias_table": {"decay_mult": 0.0},
            "norm": {"decay_mult": 0.0},
        },
    }
    for name, own in (
        ("ade20k_upernet_swint", upernet),
        ("ade20k_linear_swint", LINEAR | {"model.decode_head.channels": 1440}),
    ):
        config = load("segmentation", name)
        assert differences(config, COMMON | maps | own) == {}
        check_sizes(config, 512)


@pytest.mark.parametrize("name", TESTED_AT_SIX_SCALES)
def test_multi_scale_differs_in_the_test_alone(name: str) -> None:
    plain, multi = load("segmentation", name), load("segmentation", f"{name}_ms")
    changed = {key for key in multi if multi[key] != plain.get(key)}
    assert changed == {"custom_imports", "test_dataloader", "test_cfg"}
    assert multi.test_cfg.type == "MultiScaleTestLoop"
    assert multi.test_dataloader.dataset.pipeline == plain.tta_pipeline


def test_rate_over_the_first_steps() -> None:
    """Poly decay from step 0 times the warm-up, as in the mmcv 1 of the papers."""
    config = load("segmentation", "ade20k_upernet_vits16")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    built = {"optimizer": optimizer}
    schedulers = [
        PARAM_SCHEDULERS.build(dict(s), default_args=built) for s in config.param_scheduler
    ]
    for step in range(3001):
        if step in (0, 500, 1000, 2000, 3000):
            ramp = min(1.0, 1e-6 + (1 - 1e-6) * step / 1500)
            expected = ramp * (1 - step / 160000)
            assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=2e-3)
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def check_sizes(config: Config, crop: int) -> None:
    """Everything that follows from the side of a training crop."""
    _, labels, resize, cut, flip, distort, _ = config.train_dataloader.dataset.pipeline
    assert labels.reduce_zero_label
    assert (resize.type, resize.scale) == ("RandomResize", (4 * crop, crop))
    assert (resize.ratio_range, resize.keep_ratio) == ((0.5, 2.0), True)
    assert (cut.crop_size, cut.cat_max_ratio) == ((crop, crop), 0.75)
    assert (flip.prob, distort.type) == (0.5, "PhotoMetricDistortion")
    assert config.model.data_preprocessor["size"] == (crop, crop)
    test = config.test_dataloader.dataset.pipeline[1]
    assert (test.type, test.scale, test.keep_ratio) == ("Resize", (4 * crop, crop), True)
    assert config.model.test_cfg.crop_size == (crop, crop)
    assert config.model.test_cfg.stride == (STRIDES[crop], STRIDES[crop])
    scales, flips, _, _ = config.tta_pipeline[1].transforms
    assert [step.scale for step in scales] == [(4 * side, side) for side in SCALES[crop]]
    assert [step.prob for step in flips] == [0.0, 1.0]
