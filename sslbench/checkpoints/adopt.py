"""Fits a state dict of others to a backbone of ours, with every key accounted for.

The architecture is inferred from the names and shapes of the tensors, once they are under our
names.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import SIZES, SWIN_STRIDE, SWINS, BackboneConfig, Positions
from sslbench.checkpoints.loaded import Report, shortened
from sslbench.checkpoints.networks import Names, flat, sorted_names
from sslbench.errors import UserError

# settings of a `BackboneConfig` that shapes do not tell, by family
UNTOLD = {
    "vit": ("norm_eps", "resampling"),
    "beit": ("norm_eps", "resampling"),
    "swin": ("norm_eps", "image_size"),
}
DIMENSIONS = {  # of the tensors that sizes are read from
    r"patch_embed\.(proj\.)?weight": 4,
    r"pos_embed|register_tokens": 3,
    r".*relative_position_bias_table": 2,
}


@dataclass(frozen=True)
class Adopted:
    """A backbone with its weights in eval mode, and a projection head's tensors as they were.

    head: names below "head." -> tensors; head_keys: their names in the file. normed: the network
    itself ends in a norm, as its file says. half_range: its naming says that inputs were in
    [-1, 1].
    """

    backbone: Backbone
    config: BackboneConfig
    head: dict[str, Tensor]
    head_keys: tuple[str, ...]
    normed: bool
    half_range: bool
    report: Report


def adopt(
    tensors: Mapping[str, Tensor],
    source: str,
    network: str | None = None,
    known: Mapping[str, Any] = {},
) -> Adopted:
    """The backbone whose weights `tensors` are.

    network: which of several in the dict, by the start of its keys. known: settings of `UNTOLD`;
    without them the naming tells the eps of LayerNorms.
    Raises UserError where a key is missing or cannot be explained, and where a tensor cannot be a
    weight.
    """
    names = sorted_names(tensors, source, network)
    head = {part: _joined(tensors, keys, source) for part, keys in names.head.items()}
    body = {name: _joined(tensors, keys, source) for name, keys in names.body.items()}
    check_shapes(body, source)
    for layout in names.layouts:
        body = layout.arrange(body) if layout.arrange else body
    config = _config(body, source, names, known)
    backbone = build_backbone(config, "mask_token" in body, drop_path=0.0)
    if names.pooled and "norm.weight" not in body:
        backbone.register_module("norm", nn.Identity())
    _fill(backbone, body, names.unknown, f"{source} does not fit {config.arch}")
    normed = not isinstance(backbone.get_submodule("norm"), nn.Identity)
    notes = _notes(config, body, normed, names, known)
    return Adopted(
        backbone.eval(),
        config,
        head,
        flat(names.head.values()),
        names.translation.normed if names.translation else normed,
        any(layout.half_range for layout in names.layouts),
        Report(flat(names.body.values()), names.dropped, notes),
    )


def _config(
    body: Mapping[str, Tensor], source: str, names: Names, known: Mapping[str, Any]
) -> BackboneConfig:
    """The architecture of tensors under our names."""
    by_layout = (layout.norm_eps for layout in names.layouts if layout.norm_eps)
    config = infer(body, source, next(by_layout, BackboneConfig.norm_eps))
    known = {**(names.translation.usual if names.translation else {}), **known}
    return replace(config, **{k: known[k] for k in UNTOLD[config.family] if k in known})


def _notes(
    config: BackboneConfig,
    body: Mapping[str, Tensor],
    normed: bool,
    names: Names,
    known: Mapping[str, Any],
) -> tuple[str, ...]:
    """What was assumed of a backbone with these tensors."""
    notes = []
    if "mask_token" not in body:
        notes.append("the file holds no mask token; evaluation needs none")
    if not normed:
        notes.append("fine-tuned on the mean patch, it has no final norm: none is applied")
    if config.family == "swin":
        notes.append(f"trained on {config.image_size} px, as its windows say")
        by = "as it says" if names.translation or "norm_eps" in known else "as its naming tells"
        notes.append(f"its LayerNorms have eps {config.norm_eps}, {by}")
    if names.translation and "norm_eps" not in known:
        eps = config.norm_eps
        notes.append(f"no settings lie beside it: its LayerNorms are taken to have eps {eps}")
    return tuple(notes)


def _joined(tensors: Mapping[str, Tensor], keys: tuple[str, ...], source: str) -> Tensor:
    """The tensors of some keys, one after the other, in single precision.

    Raises UserError where one cannot be a weight.
    """
    if keys[0].endswith("num_batches_tracked"):
        return tensors[keys[0]]
    shapes = {tuple(tensors[key].shape) for key in keys}
    if len(keys) > 1 and (len(shapes) > 1 or () in shapes):
        raise UserError(
            f"{source} is damaged: {', '.join(keys)} differ in shape; get the file anew."
        )
    for key in keys:
        if reason := unsound(tensors[key]):
            raise UserError(f"{source} is unfit: its {key} {reason}; get or save it anew.")
    pieces = [tensors[key].float() for key in keys]
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def unsound(tensor: Tensor) -> str | None:
    """Why a tensor cannot be a weight, e.g. "is sparse"; None if it can."""
    if tensor.is_meta:
        return "has a shape and no values"
    if tensor.layout is not torch.strided:
        return "is sparse"
    if not tensor.is_floating_point():
        return f"holds {str(tensor.dtype).removeprefix('torch.')} instead of floating-point numbers"
    if not tensor.float().isfinite().all():
        return "holds values that are not finite"
    return None


def _fill(backbone: nn.Module, body: dict[str, Tensor], unknown: list[str], start: str) -> None:
    """Loads `body`; UserError, a sentence after `start`, naming every kind of misfit."""
    wanted = backbone.state_dict()
    if "mask_token" in body and body["mask_token"].numel() == wanted["mask_token"].numel():
        body["mask_token"] = body["mask_token"].reshape(wanted["mask_token"].shape)
    missing = [k for k in wanted if k not in body]
    unexpected = [*(k for k in body if k not in wanted), *unknown]
    if missing or unexpected:
        lacks = [f"it lacks {shortened(missing)}"] if missing else []
        has = [f"nothing explains its {shortened(unexpected)}"] if unexpected else []
        near = [
            n for k in unexpected[:3] for n in difflib.get_close_matches(k, missing or wanted, 1)
        ]
        hint = [f"nearest are {shortened(near)}"] if near else []
        raise UserError(f"{start}: {'; '.join(lacks + has + hint)}.")
    wrong = [k for k, v in wanted.items() if v.shape != body[k].shape]
    if wrong:
        shapes = (tuple(body[wrong[0]].shape), tuple(wanted[wrong[0]].shape))
        raise UserError(
            f"{start}: {shortened(wrong)} has the shape {shapes[0]} instead of {shapes[1]}."
        )
    backbone.load_state_dict(body)


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
