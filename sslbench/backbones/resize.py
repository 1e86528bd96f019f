"""Weights of a backbone for another image size, another patch, or tables in every block.

As beit/run_class_finetuning.py does before fine-tuning: the tables of the trained size become those
of the new one once, and are trained on from there.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor

from sslbench.backbones.beit_vit import splined_table
from sslbench.backbones.config import BackboneConfig
from sslbench.errors import UserError

SHARED = "rel_pos_bias.relative_position_bias_table"
TABLE = "attn.relative_position_bias_table"
# settings that weights must have in common with the backbone that they are for
ALIKE = ("name", "window", "registers")


def fitted_to(
    tensors: Mapping[str, Tensor], old: BackboneConfig, new: BackboneConfig
) -> dict[str, Tensor]:
    """The tensors of an `old` backbone for a `new` one, which may differ in its image and patch.

    Absolute positions are resampled bicubically to the exact size, bias tables as `splined_table`;
    a table that all blocks share is copied into every block where the new ones have their own
    (run_class_finetuning.py:337-344). Raises UserError, in one sentence, for what cannot fit.
    """
    _check(old, new)
    fitted, grid = dict(tensors), new.image_size // new.stride
    if new.family == "swin":
        return fitted
    if new.patch_size != old.patch_size:
        sides = [new.patch_size, new.patch_size]
        fitted["patch_embed.weight"] = resample_patch_embed(fitted["patch_embed.weight"], sides)
    if grid != old.image_size // old.stride:
        for name, tensor in tensors.items():
            if name == "pos_embed":
                fitted[name] = _resampled(tensor, grid)
            elif name.endswith("relative_position_bias_table"):
                fitted[name] = splined_table(tensor, (grid, grid))
    if old.positions == "shared relative" and new.positions == "relative":
        table = fitted.pop(SHARED)
        blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
        fitted |= {f"blocks.{block}.{TABLE}": table.clone() for block in sorted(blocks)}
    return fitted


def _check(old: BackboneConfig, new: BackboneConfig) -> None:
    for key in ALIKE:
        if (a := getattr(old, key)) != (b := getattr(new, key)):
            raise UserError(
                f"the weights are of a backbone with {key} {a!r}, not {b!r}; set backbone.{key}={a}"
            )
    if old.positions != new.positions and (old.positions, new.positions) != (
        "shared relative",
        "relative",
    ):
        raise UserError(
            f"the weights have {old.positions} positions, which do not become {new.positions} "
            f"ones; set backbone.positions={old.positions!r}"
        )
    if bool(old.layer_scale) != bool(new.layer_scale):
        raise UserError(
            f"the weights have {'' if old.layer_scale else 'no '}LayerScale; set "
            f"backbone.layer_scale={old.layer_scale:g}"
        )


def _resampled(positions: Tensor, grid: int) -> Tensor:
    """Positions (1, 1 + n * n, D) for a grid of another side; that of [CLS] stays."""
    side = round((positions.shape[1] - 1) ** 0.5)
    square = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    square = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], square.flatten(2).transpose(1, 2)], dim=1)
