"""Turns a state dict of another project into one of our backbones, every key accounted for."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import SIZES, SWIN_STRIDE, SWINS, BackboneConfig
from sslbench.backbones.loaded import Report, few
from sslbench.backbones.names import MM_SWIN, MM_VIT, TIMM_SWIN, TIMM_VIT, to_ours, unfolded
from sslbench.errors import UserError

EMBEDDING = re.compile(r"(.*?)patch_embed\.(proj\.|projection\.)?weight")
PROJECTION = re.compile(
    r"(?:.*\.)?head\.((?:mlp|layers|norms|patch_norms|last_layer2?|last_norm2?)\..+)"
)
NOT_OURS = {  # what is left out on purpose, by its name -> why
    r".*(relative_position_index|attn_mask)": "computed from the sizes",
    r".*(lm_head|cls_pt_layers|target_generator|neck)\..*": "for pretraining only",
    r"(.*\.)?decoder_.*|(.*\.)?decoder\..*": "the decoder of masked autoencoding",
    r"(.*\.)?(fc_norm|head_dist|classifier|fc)\.(weight|bias)": "a fine-tuned classifier",
    r"(.*\.)?head\.(fc\.|layers\.head\.)?(weight|bias)": "a fine-tuned classifier",
}


@dataclass(frozen=True)
class Adopted:
    """A backbone with its weights in eval mode, and a projection head's tensors as they were."""

    backbone: Backbone
    config: BackboneConfig
    head: dict[str, Tensor]
    report: Report


def adopt(tensors: Mapping[str, Tensor], source: str, network: str | None = None) -> Adopted:
    """The backbone whose weights `tensors` are, its architecture inferred from their shapes.

    network: which of several in the dict, by the start of its keys. Raises UserError where a key
    is missing or cannot be explained.
    """
    tensors = {re.sub(r"^(module\.|_orig_mod\.)+", "", k): v for k, v in tensors.items()}
    root = _root(tensors, source, network)
    head = {m.group(1): v for k, v in tensors.items() if (m := PROJECTION.fullmatch(k))}
    body = {k.removeprefix(root): v for k, v in tensors.items() if k.startswith(root)}
    others = {k: v for k, v in tensors.items() if not k.startswith(root)}
    body = _canonical({k: v for k, v in body.items() if not PROJECTION.fullmatch(k)})
    unknown = [k for k in others if not PROJECTION.fullmatch(k)]
    dropped, body = _leave_out(body, unknown)
    config = _infer(body, source)
    backbone = build_backbone(config, "mask_token" in body, drop_path=0.0)
    notes = [] if "mask_token" in body else ["the file holds no mask token; judging needs none"]
    if "norm.weight" not in body and any(
        "fc_norm." in k for keys in dropped.values() for k in keys
    ):
        backbone.register_module("norm", nn.Identity())
        notes.append("fine-tuned on the mean patch, it has no final norm: none is applied")
    if config.family == "swin":
        notes.append(f"trained on {config.image_size} px, as its windows say")
    unknown = [k for k in unknown if not any(k in keys for keys in dropped.values())]
    _fill(backbone, body, unknown, f"{source} does not fit {config.arch}")
    report = Report(tuple(body), dropped, tuple(notes))
    return Adopted(backbone.eval(), config, head, report)


def _root(tensors: Mapping[str, Tensor], source: str, network: str | None) -> str:
    """What stands before the backbone's own names, e.g. "backbone."."""
    roots = sorted({m.group(1) for k in tensors if (m := EMBEDDING.fullmatch(k))})
    if len(roots) > 1:
        roots = [root for root in roots if root.startswith(network or "teacher")] or roots
    if not roots:
        raise UserError(
            f"{source} holds no ViT, BEiT or Swin: no patch embedding is among its {len(tensors)} "
            f"tensors ({few(list(tensors))})."
        )
    if len(roots) > 1:
        raise UserError(
            f"{source} holds {len(roots)} backbones ({', '.join(roots)}); choose one with "
            f"'{source}?key={roots[0].split('.')[0]}'."
        )
    return roots[0]


def _canonical(t: dict[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's tensors under our names and in our shapes."""
    if "patch_embed.projection.weight" in t:
        swin = any(k.startswith("stages.") for k in t)
        t = to_ours(t, MM_SWIN if swin else MM_VIT)
        if swin:
            t = {k: unfolded(v, back=True) if ".downsample." in k else v for k, v in t.items()}
    if any(k.startswith("layers.") for k in t):
        if any(k.startswith("layers.3.downsample.") for k in t):
            t = to_ours(t, TIMM_SWIN)
    else:
        t = to_ours(t, TIMM_VIT)
    if not any(k.endswith(".q_bias") for k in t):
        t = {re.sub(r"\.gamma_([12])$", r".ls\1.gamma", k): v for k, v in t.items()}
    t = {("mask_token" if k == "masked_embed" else k): v for k, v in t.items()}
    if any(k.startswith("decoder_") for k in t) and "mask_token" in t:
        t["decoder_mask_token"] = t.pop("mask_token")  # it enters the decoder, in its width
    if (
        "pos_embed" in t
        and "register_tokens" in t
        and math.isqrt(n := t["pos_embed"].shape[1]) ** 2 == n
    ):
        t["pos_embed"] = torch.cat([torch.zeros_like(t["pos_embed"][:, :1]), t["pos_embed"]], dim=1)
    return {k: v.float() if v.is_floating_point() else v for k, v in t.items()}


def _leave_out(
    body: Mapping[str, Tensor], others: Iterable[str]
) -> tuple[dict[str, tuple[str, ...]], dict[str, Tensor]]:
    """What is dropped, by reason, and the rest of the body."""
    dropped: dict[str, list[str]] = {}
    for key in (*body, *others):
        for pattern, reason in NOT_OURS.items():
            if re.fullmatch(pattern, key):
                dropped.setdefault(reason, []).append(key)
                break
    gone = {key for keys in dropped.values() for key in keys}
    kept = {k: v for k, v in body.items() if k not in gone}
    return {reason: tuple(keys) for reason, keys in dropped.items()}, kept


def _infer(t: Mapping[str, Tensor], source: str) -> BackboneConfig:
    """The architecture that the names and shapes of `t` tell."""
    if any(k.startswith("layers.") for k in t):
        return _infer_swin(t, source)
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
    positions, table = "absolute", next((k for k in t if k.endswith("position_bias_table")), None)
    if table and family == "beit":
        positions = "shared relative" if table.startswith("rel_pos_bias.") else "relative"
        side = (math.isqrt(len(t[table]) - 3) + 1) // 2
    elif "pos_embed" in t:
        side = math.isqrt(t["pos_embed"].shape[1] - 1)
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
    )


def _infer_swin(t: Mapping[str, Tensor], source: str) -> BackboneConfig:
    width, _, patch, _ = t["patch_embed.proj.weight"].shape
    stages = range(_count(t, r"layers\.(\d+)\."))
    depths = tuple(_count(t, rf"layers\.{s}\.blocks\.(\d+)\.") for s in stages)
    name = _named({n: (s[0], s[1]) for n, s in SWINS.items()}, (width, depths))
    table = "layers.{}.blocks.0.attn.relative_position_bias_table"
    windows = [(math.isqrt(len(t[k])) + 1) // 2 for s in stages if (k := table.format(s)) in t]
    if name is None or not windows:
        raise UserError(
            f"{source} holds a Swin of width {width} and depths {depths}, which is none of "
            f"{', '.join(SWINS)}."
        )
    # a stage smaller than the window has a table of its own size; else the papers' 224 px
    shrunk = windows[-1] < windows[0]
    size = windows[-1] * SWIN_STRIDE if shrunk else 224
    return BackboneConfig(name, patch, size, window=windows[0])


def _count(t: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max((int(m.group(1)) for k in t if (m := re.match(pattern, k))), default=-1)


def _named(sizes: Mapping[str, tuple[object, object]], wanted: tuple[object, object]) -> str | None:
    return next((name for name, size in sizes.items() if size == wanted), None)


def _fill(backbone: nn.Module, body: dict[str, Tensor], unknown: list[str], said: str) -> None:
    """Loads `body`; UserError naming every kind of misfit, after `said`."""
    wanted = backbone.state_dict()
    if "mask_token" in body and body["mask_token"].numel() == wanted["mask_token"].numel():
        body["mask_token"] = body["mask_token"].reshape(wanted["mask_token"].shape)
    missing = [k for k in wanted if k not in body]
    unexpected = [*(k for k in body if k not in wanted), *unknown]
    if missing or unexpected:
        lacks = [f"it lacks {few(missing)}"] if missing else []
        has = [f"nothing explains its {few(unexpected)}"] if unexpected else []
        near = [
            n for k in unexpected[:3] for n in difflib.get_close_matches(k, missing or wanted, 1)
        ]
        hint = [f"nearest are {few(near)}"] if near else []
        raise UserError(f"{said}: {'; '.join(lacks + has + hint)}.")
    wrong = [k for k, v in wanted.items() if v.shape != body[k].shape]
    if wrong:
        shapes = (tuple(body[wrong[0]].shape), tuple(wanted[wrong[0]].shape))
        raise UserError(f"{said}: {few(wrong)} has the shape {shapes[0]} instead of {shapes[1]}.")
    backbone.load_state_dict(body)
