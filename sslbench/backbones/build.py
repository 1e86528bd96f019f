"""Builds the backbone that a `BackboneConfig` names, and infers the config from its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace

from torch import Tensor

from sslbench.backbones.base import Backbone
from sslbench.backbones.config import (
    SIZES,
    SWIN_PATCH,
    SWIN_STRIDE,
    SWINS,
    BackboneConfig,
    Positions,
)
from sslbench.errors import UserError, nearest
from sslbench.settings import typed

DIMENSIONS = {  # of the tensors that sizes are read from
    r"patch_embed\.(proj\.)?weight": 4,
    r"pos_embed|register_tokens": 3,
    r".*relative_position_bias_table": 2,
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
    return _class_of(config.family)(config, mask_token)


def _class_of(family: str) -> type[Backbone]:
    """Imported here: timm takes a second, for which the check of a recipe need not wait."""
    from sslbench.backbones.beit_vit import BEiTTransformer
    from sslbench.backbones.swin import SwinTransformer
    from sslbench.backbones.vit import VisionTransformer

    families = {"vit": VisionTransformer, "beit": BEiTTransformer, "swin": SwinTransformer}
    return families[family]


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


def check_shapes(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raises UserError where a tensor that tells a size has a shape that tells none.

    tensors: of a backbone, under our names; source: what the message calls their file.
    """
    for key, tensor in tensors.items():
        ranks = (rank for name, rank in DIMENSIONS.items() if re.fullmatch(name, key))
        merges = re.fullmatch(r"layers\.\d+\.downsample\..+", key)
        odd = merges and (not tensor.ndim or tensor.shape[-1] % 4)
        if tensor.ndim != next(ranks, tensor.ndim) or 0 in tensor.shape or odd:
            raise UserError(
                f"{source} is damaged: its {key} has the impossible shape {tuple(tensor.shape)}; "
                "get the file anew."
            )


def infer_config(tensors: Mapping[str, Tensor], source: str, norm_eps: float) -> BackboneConfig:
    """The architecture that names and shapes tell; norm_eps: of its LayerNorms.

    tensors: of a backbone, under our names, see `check_shapes`. Raises UserError for sizes that
    have no name and where something that tells a size is missing.
    """
    if any(key.startswith("layers.") for key in tensors):
        return _infer_swin(tensors, source, norm_eps)
    if "patch_embed.weight" not in tensors:
        raise UserError(f"{source} mixes names of a ViT with those of a Swin; get the file anew.")
    width, _, patch, _ = tensors["patch_embed.weight"].shape
    depth = _count(tensors, r"blocks\.(\d+)\.")
    family = "beit" if any(key.endswith(".q_bias") for key in tensors) else "vit"
    sizes = {name: size[:2] for name, size in SIZES.items() if name.startswith(family)}
    name = _name_of(sizes, (width, depth))
    if name is None:
        raise UserError(
            f"{source} holds a ViT of width {width} and depth {depth}, which is none of "
            f"{', '.join(sizes)}."
        )
    positions, side = _positions(tensors, family, source)
    scaled = any(key.endswith((".gamma_1", ".ls1.gamma")) for key in tensors)
    # what a random-init backbone of the same architecture starts from
    initial = 1.0 if family == "vit" else 0.1 if depth == 12 else 1e-5
    registers = tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0
    return BackboneConfig(
        name,
        patch,
        side * patch,
        positions=positions,
        layer_scale=initial if scaled else 0.0,
        registers=registers,
        norm_eps=norm_eps,
    )


def _positions(tensors: Mapping[str, Tensor], family: str, source: str) -> tuple[Positions, int]:
    """The kind of a ViT's positions and the side of its images in patches."""
    table = next((key for key in tensors if key.endswith("position_bias_table")), None)
    if table and family == "beit":
        side = (_side(table, len(tensors[table]), 3, source) + 1) // 2
        return "shared relative" if table.startswith("rel_pos_bias.") else "relative", side
    if "pos_embed" not in tensors:
        raise UserError(f"{source} lacks 'pos_embed', so the size of its images is unknown.")
    return "absolute", _side("pos_embed", tensors["pos_embed"].shape[1], 1, source)


def _infer_swin(tensors: Mapping[str, Tensor], source: str, norm_eps: float) -> BackboneConfig:
    if "patch_embed.proj.weight" not in tensors:
        raise UserError(f"{source} holds a Swin without a patch embedding; get the file anew.")
    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    stages = range(_count(tensors, r"layers\.(\d+)\."))
    depths = tuple(_count(tensors, rf"layers\.{s}\.blocks\.(\d+)\.") for s in stages)
    name = _name_of({name: size[:2] for name, size in SWINS.items()}, (width, depths))
    tables = [f"layers.{s}.blocks.0.attn.relative_position_bias_table" for s in stages]
    windows = [
        (_side(key, len(tensors[key]), 0, source) + 1) // 2 for key in tables if key in tensors
    ]
    if name is None or not windows:
        raise UserError(
            f"{source} holds a Swin of width {width} and depths {depths}, which is none of "
            f"{', '.join(SWINS)}."
        )
    # a stage smaller than the window has a table of its own size; else the papers' 224 px
    shrunk = windows[-1] < windows[0]
    size = windows[-1] * SWIN_STRIDE if shrunk else 224
    return BackboneConfig(name, patch, size, window=windows[0], norm_eps=norm_eps)


def _side(key: str, rows: int, extra: int, source: str) -> int:
    """Side of the square that the rows of a table make, less the `extra` ones of [CLS]."""
    if rows <= extra:
        raise UserError(f"{source} is damaged: its {key} has too few rows ({rows}); get it anew.")
    return math.isqrt(rows - extra)


def _count(names: Iterable[str], pattern: str) -> int:
    """How many blocks or stages there are, by the largest number in group 1."""
    numbers = (int(match.group(1)) for name in names if (match := re.match(pattern, name)))
    return 1 + max(numbers, default=-1)


def _name_of(sizes: Mapping[str, object], wanted: object) -> str | None:
    return next((name for name, size in sizes.items() if size == wanted), None)
