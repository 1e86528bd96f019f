"""Builds the backbone that a `BackboneConfig` names."""

from __future__ import annotations

from dataclasses import replace

from sslbench.backbones.base import Backbone
from sslbench.backbones.config import SIZES, BackboneConfig
from sslbench.backbones.vit import VisionTransformer
from sslbench.errors import UserError, nearest


def build_backbone(
    config: BackboneConfig, mask_token: bool = False, drop_path: float | None = None
) -> Backbone:
    """The backbone of a recipe; raises UserError for an unknown name or an impossible size."""
    if config.name not in SIZES:
        raise UserError(f"unknown backbone {config.name!r}: {nearest(config.name, SIZES)}.")
    for key in ("patch_size", "image_size"):
        if getattr(config, key) < 1:
            raise UserError(f"backbone.{key}={getattr(config, key)} must be at least 1 pixel.")
    if config.image_size % config.patch_size:
        raise UserError(
            f"backbone.image_size {config.image_size} is not a multiple of backbone.patch_size "
            f"{config.patch_size}; choose a multiple of it."
        )
    if drop_path is not None:
        config = replace(config, drop_path=drop_path)
    return VisionTransformer(config, mask_token)
