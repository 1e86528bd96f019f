"""Fits a backbone's weights to another image size, patch or kind of positions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sslbench.backbones.base import Backbone
from sslbench.backbones.config import SIZES, BackboneConfig
from sslbench.errors import UserError

SHARED = "rel_pos_bias.relative_position_bias_table"
SHARED_TO_OWN = ("shared relative", "relative")
# may be missing from weights or from the network that they are loaded into, with what follows
OPTIONAL = {
    "mask_token": "the mask token is new",
    "norm.weight": "the final norm is new",
    "norm.bias": "",
}


def fitted_to(
    tensors: Mapping[str, Tensor], old: BackboneConfig, new: BackboneConfig
) -> dict[str, Tensor]:
    """The weights of a backbone `old` for a backbone `new`, under the same names.

    Absolute positions are interpolated to the exact new grid, bicubic, and tables of bias by a
    spline, as beit/run_class_finetuning.py does; a patch embedding is resampled as by FlexiViT
    (timm.layers.resample_patch_embed); a shared table is copied into every block.
    Raises UserError for what cannot be fitted: another width, depth, family or kind of positions.
    """
    from timm.layers import resample_patch_embed  # seconds to import, and methods need only `fill`

    from sslbench.backbones.beit_vit import splined_table

    check_fit(old, new)
    fitted = dict(tensors)
    if old.patch_size != new.patch_size:
        sides = [new.patch_size, new.patch_size]
        fitted["patch_embed.weight"] = resample_patch_embed(fitted["patch_embed.weight"], sides)
    if (old.positions, new.positions) == SHARED_TO_OWN:
        table = fitted.pop(SHARED)
        for block in range(SIZES[new.name][1]):
            name = f"blocks.{block}.attn.relative_position_bias_table"
            fitted[name] = table.clone()
    side, target = old.image_size // old.stride, new.image_size // new.stride
    if side != target and new.family != "swin":
        for name, tensor in fitted.items():
            if name == "pos_embed":
                fitted[name] = _positions(tensor, side, target)
            elif name.endswith("relative_position_bias_table"):
                fitted[name] = splined_table(tensor, (target, target))
    return fitted


def fill(backbone: Backbone, tensors: Mapping[str, Tensor]) -> list[str]:
    """Loads `tensors` into `backbone`; returns sentences on what is new.

    A mask token and a final norm may be missing on either side. Raises UserError where anything
    else differs in name or shape.
    """
    wanted = backbone.state_dict()
    tensors = {n: t for n, t in tensors.items() if n in wanted or n not in OPTIONAL}
    if "mask_token" in tensors:  # (1, D) of a ViT, (1, 1, D) of a BEiT
        tensors["mask_token"] = tensors["mask_token"].reshape(wanted["mask_token"].shape)
    missing = [name for name in wanted if name not in tensors and name not in OPTIONAL]
    wrong = [n for n in tensors if n not in wanted or wanted[n].shape != tensors[n].shape]
    if missing or wrong:
        name = (missing or wrong)[0]
        there, here = (
            str(tuple(t[name].shape)) if name in t else "none" for t in (tensors, wanted)
        )
        raise UserError(
            f"the weights to start from do not fit the recipe's backbone: {name} has the shape "
            f"{there}, not {here}; set backbone.* as those weights have it."
        )
    backbone.load_state_dict(tensors, strict=False)
    return [text for n, text in OPTIONAL.items() if text and n in wanted and n not in tensors]


def check_fit(old: BackboneConfig, new: BackboneConfig) -> None:
    """Raises UserError where weights of `old` cannot be fitted to `new`."""
    if old.name != new.name:
        raise UserError(
            f"the weights to start from are of {old.name} and the recipe's backbone is {new.name}, "
            f"of another width, depth or family; set backbone.name={old.name}."
        )
    if old.positions != new.positions and (old.positions, new.positions) != SHARED_TO_OWN:
        raise UserError(
            f"the weights to start from have positions {old.positions!r}, which cannot become "
            f"{new.positions!r}; set backbone.positions={old.positions!r}."
        )
    for setting in ("registers", "window"):
        if getattr(old, setting) != getattr(new, setting):
            raise UserError(
                f"the weights to start from have {setting} {getattr(old, setting)} and the recipe "
                f"{getattr(new, setting)}; set backbone.{setting}={getattr(old, setting)}."
            )
    if bool(old.layer_scale) != bool(new.layer_scale):
        has = "LayerScale" if old.layer_scale else "no LayerScale"
        raise UserError(
            f"the weights to start from have {has}; set backbone.layer_scale={old.layer_scale:g}."
        )
    if old.family == "swin" and _windows(old) != _windows(new):
        raise UserError(
            f"the weights to start from have Swin's windows for images of {old.image_size} px, "
            f"which cannot be interpolated to those of {new.image_size} px; set "
            f"backbone.image_size={old.image_size}."
        )
    if old.patch_size != new.patch_size and old.positions != "absolute":
        raise UserError(
            f"the weights to start from have relative positions of patches of {old.patch_size} px, "
            f"which cannot be interpolated to patches of {new.patch_size} px; set "
            f"backbone.patch_size={old.patch_size}."
        )


def _windows(config: BackboneConfig) -> list[int]:
    """Sides of a Swin's windows in its four stages, in tokens; one is no larger than its stage."""
    side = config.image_size // config.patch_size
    return [min(config.window, side >> stage) for stage in range(4)]


def _positions(table: Tensor, side: int, target: int) -> Tensor:
    """Positions (1, 1 + side^2, D) as (1, 1 + target^2, D), bicubic, with [CLS]'s as it is."""
    square = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    square = F.interpolate(square, size=(target, target), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], square.flatten(2).transpose(1, 2)], dim=1)
