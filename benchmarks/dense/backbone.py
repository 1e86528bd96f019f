"""Any backbone of ours as a backbone of mmdet and mmseg.

Taps and pyramid are the papers' (`ibot/evaluation/object_detection/mmcv_custom/
register_backbone.py:70-87,174-193`). The strides follow the patch size p: p/4, p/2, p, 2p; a patch
of 8 gets maps twice as fine as one of 16, where the papers' code would give both the same strides.
Patches of 14 are read as patches of 16 there: images are made smaller by 14/16, so that weights
stay as they are. Swin has maps of four strides itself: the outputs of its stages, each through a
LayerNorm of its own (mmdet/models/backbones/swin.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError

# recipes 5.6 and 5.7; a depth of 4 has one block a map
TAPS = {12: (3, 5, 7, 11), 24: (7, 11, 15, 23), 4: (0, 1, 2, 3)}
Arch = dict[str, Any]


@MODELS.register_module()
class SSLBackbone(BaseModule):
    """Feature maps of a pretrained backbone for dense tasks; `model` is the backbone itself.

    source: anything `load_backbone` takes; arch: keys of `BackboneConfig`, for fresh weights that a
    checkpoint replaces (exactly one of the two). sha256: what the weights behind `source` are,
    where that is known. out_indices: 0-based blocks that are tapped; what only later blocks use is
    dropped. out_norm: every tap through the final norm.
    pyramid: four maps at strides p/4, p/2, p, 2p instead of all at p; of Swin, whose strides
    differ anyway, maps through norms that are trained. frozen: the backbone (not the pyramid)
    stays in eval mode and gets no gradient. norm_cfg: the norm inside a ViT's pyramid.
    """

    def __init__(
        self,
        source: str | None = None,
        arch: Arch | None = None,
        sha256: str | None = None,
        out_indices: Sequence[int] = (3, 5, 7, 11),
        out_norm: bool = False,
        pyramid: bool = True,
        drop_path: float = 0.0,
        frozen: bool = False,
        checkpointing: bool = False,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.model = _backbone(source, arch, sha256)
        self.out_indices, self.out_norm = tuple(out_indices), out_norm
        self.pyramid, self.frozen = pyramid, frozen
        _check_taps(self.out_indices, self.model, pyramid)
        maps = map_shapes(self.model, self.out_indices, pyramid)
        self.stride = stride_of(self.model, pyramid)
        self.model.set_drop_path(drop_path)  # before blocks are dropped: over the whole depth
        self.model.prune(max(self.out_indices) + 1, out_norm)
        self.model.checkpointing = checkpointing
        self.model.requires_grad_(not frozen)
        if pyramid and self.model.stage_ends:
            self.norms = nn.ModuleList(LayerNorm2d(channels, eps=1e-5) for channels, _ in maps)
        elif pyramid:
            self._add_pyramid(self.model.embed_dim, norm_cfg or {"type": "BN"})
        self.train()

    def _add_pyramid(self, dim: int, norm_cfg: dict[str, Any]) -> None:
        """The four layers of a ViT under the names they have in the papers' checkpoints."""
        first, second, third = (nn.ConvTranspose2d(dim, dim, 2, stride=2) for _ in range(3))
        norm = build_norm_layer(norm_cfg, dim)[1]
        self.fpn1 = nn.Sequential(first, norm, nn.GELU(), second)
        self.fpn2 = nn.Sequential(third)
        self.fpn3 = nn.Identity()
        self.fpn4 = nn.MaxPool2d(2, stride=2)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) normalised -> one (B, D, h, w) map per tap.

        An H or W that is no multiple of `stride` is padded with zeros on the right and below, so
        the map of that stride has h = H / stride rounded up.
        """
        images = self._fitting(images)
        with torch.no_grad() if self.frozen else nullcontext():
            maps = self.model.feature_pyramid(images, self.out_indices, self.out_norm)
        if self.pyramid:
            if self.model.stage_ends:
                levels = tuple(self.norms)
            else:
                levels = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
            maps = [level(x) for level, x in zip(levels, maps, strict=True)]
        return tuple(maps)

    def _fitting(self, images: Tensor) -> Tensor:
        """Padded to whole patches, and made smaller where a patch is to stand for more pixels."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % self.stride, 0, -height % self.stride))
        patch = self.model.patch_size
        if patch == self.stride:
            return images
        size = [side // self.stride * patch for side in images.shape[-2:]]
        return F.interpolate(images, size, mode="bilinear", antialias=True)

    def train(self, mode: bool = True) -> SSLBackbone:
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self


def taps(backbone: Backbone) -> tuple[int, ...]:
    """The four blocks (0-based) a backbone is tapped at: the ends of its stages, if it has any."""
    return backbone.stage_ends or spread_taps(backbone.depth)


def spread_taps(depth: int) -> tuple[int, ...]:
    """The papers' four for 12 and 24 blocks; otherwise evenly spaced up to the last."""
    return TAPS.get(depth) or tuple(-(-k * depth // 4) - 1 for k in (1, 2, 3, 4))


def stride_of(backbone: Backbone, pyramid: bool) -> int:
    """Pixels a side that a patch stands for: in a pyramid, a multiple of 4."""
    patch = backbone.patch_size
    return patch + -patch % 4 if pyramid else patch


def map_shapes(backbone: Backbone, blocks: Sequence[int], pyramid: bool) -> list[tuple[int, int]]:
    """(channels, stride) of the maps that `SSLBackbone` makes of these taps."""
    if not pyramid or backbone.stage_ends:
        return [backbone.map_shape(i) for i in blocks]
    stride = stride_of(backbone, pyramid)
    return [(backbone.embed_dim, s) for s in (stride // 4, stride // 2, stride, 2 * stride)]


def arch_of(backbone: Backbone) -> Arch:
    """What `SSLBackbone(arch=...)` needs to rebuild `backbone` without its weights."""
    config = getattr(backbone, "config", None)
    if not isinstance(config, BackboneConfig):
        raise UserError(
            f"{type(backbone).__name__} cannot be rebuilt from an `arch`; keep its `source`."
        )
    return {k: v for k, v in asdict(config).items() if k != "drop_path"}


def _backbone(source: str | None, arch: Arch | None, sha256: str | None) -> Backbone:
    if (source is None) == (arch is None):
        raise UserError(
            f"SSLBackbone got source={source!r} and arch={arch!r}; give exactly one of them."
        )
    if arch is not None:
        try:
            config = BackboneConfig(**arch)
        except TypeError as error:
            raise UserError(
                f"SSLBackbone cannot use arch={dict(arch)}: {error}; give keys of BackboneConfig."
            ) from error
        return build_backbone(config, drop_path=0.0)
    model = load_backbone(str(source))
    backbone = model.backbone
    if sha256 not in (None, model.card.sha256):  # this process reads it anew, maybe hours later
        raise UserError(
            f"the weights of {source} were changed since this evaluation began, so its records "
            "would name other ones; repeat the command."
        )
    if not backbone.dense:
        raise UserError(
            f"{source!r} gives no feature maps; detection and segmentation need a backbone that "
            "does, such as a ViT or a Swin."
        )
    return backbone


def _check_taps(blocks: tuple[int, ...], backbone: Backbone, pyramid: bool) -> None:
    depth, fitting = backbone.depth, taps(backbone)
    if not blocks or not all(0 <= i < depth for i in blocks):
        raise UserError(
            f"out_indices={blocks} do not name blocks 0 to {depth - 1} of a backbone with {depth} "
            f"blocks; use out_indices={fitting}."
        )
    if pyramid and len(blocks) != 4:
        raise UserError(
            f"out_indices={blocks} are {len(blocks)} taps but the pyramid has 4 levels; use "
            f"out_indices={fitting} or pyramid=False."
        )
