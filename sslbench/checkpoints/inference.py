"""Infers the architecture of a backbone from the names and shapes of its tensors, as ours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from sslbench.backbones.config import SIZES, SWIN_STRIDE, SWINS, BackboneConfig, Positions
from sslbench.errors import UserError

DIMENSIONS = {  # of the tensors that sizes are read from
    r"patch_embed\.(proj\.)?weight": 4,
    r"pos_embed|register_tokens": 3,
    r".*relative_position_bias_table": 2,
}


def check_shapes(t: Mapping[str, Tensor], source: str) -> None:
    """Raises UserError where a tensor that sizes are read from cannot have any."""
    for key, tensor in t.items():
        wanted = next((n for name, n in DIMENSIONS.items() if re.fullmatch(name, key)), tensor.ndim)
        merges = re.fullmatch(r"layers\.\d+\.downsample\..+", key)
        odd = merges and (not tensor.ndim or tensor.shape[-1] % 4)
        if tensor.ndim != wanted or 0 in tensor.shape or odd:
            raise UserError(
                f"{source} is damaged: its {key} has the impossible shape {tuple(tensor.shape)}; "
                "get the file anew."
            )


def infer(t: Mapping[str, Tensor], source: str, norm_eps: float) -> BackboneConfig:
    """The architecture that the names and shapes of `t` tell; norm_eps: of its LayerNorms."""
    if any(k.startswith("layers.") for k in t):
        return _infer_swin(t, source, norm_eps)
    width, _, patch, _ = t["patch_embed.weight"].shape
    depth = _count(t, r"blocks\.(\d+)\.")
    family = "beit" if any(k.endswith(".q_bias") for k in t) else "vit"
    name = _named(
        {n: (s[0], s[1]) for n, s in SIZES.items() if n.startswith(family)}, (width, depth)
    )
    if name is None:
        raise UserError(
            f"{source} holds a ViT of width {width} and depth {depth}, which is none of "
            f"{', '.join(n for n in SIZES if n.startswith(family))}."
        )
    positions: Positions = "absolute"
    table = next((k for k in t if k.endswith("position_bias_table")), None)
    if table and family == "beit":
        positions = "shared relative" if table.startswith("rel_pos_bias.") else "relative"
        side = (_side(table, len(t[table]), 3, source) + 1) // 2
    elif "pos_embed" in t:
        side = _side("pos_embed", t["pos_embed"].shape[1], 1, source)
    else:
        raise UserError(f"{source} lacks 'pos_embed', so the size of its images is unknown.")
    scaled = any(k.endswith((".gamma_1", ".ls1.gamma")) for k in t)
    # values that fresh weights of this architecture would start from: the floor below these
    fresh = 1.0 if family == "vit" else 0.1 if depth == 12 else 1e-5
    registers = t["register_tokens"].shape[1] if "register_tokens" in t else 0
    return BackboneConfig(
        name,
        patch,
        side * patch,
        positions=positions,
        layer_scale=fresh if scaled else 0.0,
        registers=registers,
        norm_eps=norm_eps,
    )


def _infer_swin(t: Mapping[str, Tensor], source: str, norm_eps: float) -> BackboneConfig:
    if "patch_embed.proj.weight" not in t:
        raise UserError(f"{source} holds a Swin without a patch embedding; get the file anew.")
    width, _, patch, _ = t["patch_embed.proj.weight"].shape
    stages = range(_count(t, r"layers\.(\d+)\."))
    depths = tuple(_count(t, rf"layers\.{s}\.blocks\.(\d+)\.") for s in stages)
    name = _named({n: (s[0], s[1]) for n, s in SWINS.items()}, (width, depths))
    table = "layers.{}.blocks.0.attn.relative_position_bias_table"
    windows = [
        (_side(k, len(t[k]), 0, source) + 1) // 2 for s in stages if (k := table.format(s)) in t
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
    """Of the square that the rows of a table make, less the `extra` ones of [CLS]."""
    if rows <= extra:
        raise UserError(f"{source} is damaged: its {key} has too few rows ({rows}); get it anew.")
    return math.isqrt(rows - extra)


def _count(t: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max((int(m.group(1)) for k in t if (m := re.match(pattern, k))), default=-1)


def _named(sizes: Mapping[str, tuple[object, object]], wanted: tuple[object, object]) -> str | None:
    return next((name for name, size in sizes.items() if size == wanted), None)
