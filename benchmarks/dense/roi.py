"""The two places of mmdet where bf16 would round box coordinates, computed in float32.

bf16 keeps 8 bits: coordinates between 1024 and 2048 pixels become multiples of 8. mmdet takes the
type of its coordinates from the features: `base_dense_head.py:270-273` builds the anchors of
proposals in the type of the scores (and `batched_nms` then tells levels apart by adding offsets in
it), `single_level_roi_extractor.py:82` casts RoIs to the type of the maps. Importing this file
imports mmdet, which takes ten seconds.
"""

from __future__ import annotations

from typing import Any

from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor


class Float32RoIExtractor(SingleRoIExtractor):
    """SingleRoIExtractor that pools float32 copies of the maps, hence float32 RoIs."""

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().forward(tuple(x.float() for x in feats), rois.float(), *args, **kwargs)


class Float32RPNHead(RPNHead):
    """RPNHead whose scores and box deltas are float32, and therefore its anchors and proposals."""

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = super().forward_single(x)
        return scores.float(), deltas.float()
