"""Builds the backbone that a `BackboneConfig` names."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

from sslbench.backbones.base import Backbone
from sslbench.backbones.beit_vit import BEiTTransformer
from sslbench.backbones.config import (
    SIZES,
    SWIN_PATCH,
    SWINS,
    BackboneConfig,
)
from sslbench.backbones.swin import SwinTransformer
from sslbench.backbones.vit import VisionTransformer
from sslbench.errors import UserError, nearest
from sslbench.settings import typed

FAMILIES: dict[str, type[Backbone]] = {
    "vit": VisionTransformer,
    "beit": BEiTTransformer,
    "swin": SwinTransformer,
}
# settings that only some families know
OWNERS = {
    "window": ("swin",),
    "positions": ("beit",),
    "layer_scale": ("vit", "beit"),
    "registers": ("vit",),
    "resampling": ("vit", "beit"),
}


def build_backbone(
    config: BackboneConfig, mask_token: bool = False, drop_path: float | None = None
) -> Backbone:
    """The backbone of a recipe; raises UserError for an unknown name or impossible settings."""
    check_backbone(config)
    if drop_path is not None:
        config = replace(config, drop_path=drop_path)
    return FAMILIES[config.family](config, mask_token)


def check_backbone(config: BackboneConfig) -> None:
    """Raises UserError for an unknown name, broken bounds or settings of other families."""
    names = (*SIZES, *SWINS)
    if config.name not in names:
        raise UserError(f"unknown backbone {config.name!r}: {nearest(config.name, names)}.")
    typed(BackboneConfig, asdict(config), "backbone")
    _check_sizes(config)
    _check_family(config)


def _check_sizes(config: BackboneConfig) -> None:
    if config.family == "swin" and config.patch_size != SWIN_PATCH:
        raise UserError(
            f"backbone.patch_size {config.patch_size} does not go with {config.name}: Swin's is "
            f"always {SWIN_PATCH} (its output stride is {config.stride})."
        )
    if config.image_size % config.stride:
        raise UserError(
            f"backbone.image_size {config.image_size} is not a multiple of "
            f"{'the stride' if config.family == 'swin' else 'backbone.patch_size'} "
            f"{config.stride}; choose a multiple of it."
        )


def _check_family(config: BackboneConfig) -> None:
    defaults = {field.name: field.default for field in fields(config)}
    for key, families in OWNERS.items():
        if getattr(config, key) != defaults[key] and config.family not in families:
            raise UserError(
                f"backbone.{key}={getattr(config, key)!r} is for "
                f"{' and '.join(f'{family}_*' for family in families)}; leave it out for "
                f"{config.name}."
            )
