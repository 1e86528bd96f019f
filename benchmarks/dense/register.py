"""Fills mmengine's registries: what configs name under `custom_imports`.

mmdet and mmseg are imported when something of theirs is built and not before: mmdet takes ten
seconds, for which segmentation need not wait.
"""

from __future__ import annotations

from typing import Any

from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset

from sslbench.benchmarks.dense import install

install()  # before anything of mmcv is imported

from sslbench.benchmarks.dense import (  # noqa: E402
    backbone,
    layer_decay,
    loop,
    precision,
    reading,
    runner,
)

__all__ = ["backbone", "layer_decay", "loop", "precision", "reading", "runner"]


@MODELS.register_module(name="Float32RoIExtractor")
def float32_roi_extractor(**settings: Any) -> nn.Module:
    """See `roi.Float32RoIExtractor`."""
    from sslbench.benchmarks.dense.roi import Float32RoIExtractor

    return Float32RoIExtractor(**settings)


@MODELS.register_module(name="Float32RPNHead")
def float32_rpn_head(**settings: Any) -> nn.Module:
    """See `roi.Float32RPNHead`."""
    from sslbench.benchmarks.dense.roi import Float32RPNHead

    return Float32RPNHead(**settings)


@DATASETS.register_module(name="PairedSegDataset")
def paired_seg_dataset(**settings: Any) -> Dataset:
    """See `pairs.PairedSegDataset`."""
    from sslbench.benchmarks.dense.pairs import PairedSegDataset

    return PairedSegDataset(**settings)
