"""Turns a state dict of another project into one of our backbones, every key accounted for."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints.inference import check_shapes, infer
from sslbench.checkpoints.loaded import Report, few
from sslbench.checkpoints.names import MM_SWIN, MM_VIT, TIMM_SWIN, TIMM_VIT, to_ours, unfolded
from sslbench.checkpoints.networks import divide
from sslbench.checkpoints.soundness import unsound
from sslbench.checkpoints.wrappers import plain_names
from sslbench.errors import UserError

NOT_OURS = {  # what is left out on purpose, by its name -> why
    r".*(relative_position_index|attn_mask)": "computed from the sizes",
    r".*(lm_head|cls_pt_layers|target_generator|neck|cls_head)\..*": "for pretraining only",
    r"(.*[._])?(projector|(projection|prediction)_head|predictor)\..*": "for pretraining only",
    r"(criterion|\w*loss_func)\..*": "for pretraining only",
    r"(.*\.)?((dino|ibot)_head|\w+_loss)\..*": "for pretraining only",  # DINOv2's
    r"(.*\.)?pooler\.dense\.(weight|bias)": "a pooler behind the features",
    r"(.*\.)?decoder_.*|(.*\.)?decoder\..*": "the decoder of masked autoencoding",
    r"(.*\.)?(fc_norm|head_dist|classifier|fc)\.(weight|bias)": "a fine-tuned classifier",
    r"(.*\.)?head\.(fc\.|layers\.(head|pre_logits)\.)?(weight|bias)": "a fine-tuned classifier",
}
UNTOLD = {"vit": ("norm_eps", "resampling"), "swin": ("norm_eps", "image_size")}
OTHERS_EPS = 1e-5  # of the LayerNorms in Microsoft's, timm's and mm's Swins; iBOT's have 1e-6


@dataclass(frozen=True)
class Adopted:
    """A backbone with its weights in eval mode, and a projection head's tensors as they were.

    head_keys: the names of the head's tensors in the file.
    """

    backbone: Backbone
    config: BackboneConfig
    head: dict[str, Tensor]
    head_keys: tuple[str, ...]
    report: Report


@dataclass(frozen=True)
class _Names:
    """The names in a file by what becomes of their tensors.

    body: our name -> the file's; head: a part of the head -> the file's; dropped: reason -> the
    file's; unknown: those that nothing explains; pooled: the mean patch has a norm of its own;
    unfold: its Swin merges patches by `nn.Unfold`; norm_eps: of LayerNorms, as its naming tells.
    """

    body: dict[str, str]
    head: dict[str, str]
    dropped: dict[str, tuple[str, ...]]
    unknown: list[str]
    pooled: bool
    unfold: bool
    norm_eps: float


def adopt(
    tensors: Mapping[str, Tensor],
    source: str,
    network: str | None = None,
    known: Mapping[str, Any] = {},
) -> Adopted:
    """The backbone whose weights `tensors` are, its architecture inferred from their shapes.

    network: which of several in the dict, by the start of its keys. known: settings of its
    `BackboneConfig` that shapes do not tell, those of `UNTOLD`; where nothing is known of its
    LayerNorms, its naming tells.
    Raises UserError where a key is missing or cannot be explained, and where a tensor is none of
    weights.
    """
    names = _sorted_names(tensors, source, network)
    head = {part: _sound(tensors, key, source) for part, key in names.head.items()}
    body = {ours: _sound(tensors, key, source) for ours, key in names.body.items()}
    check_shapes(body, source)
    body = _reshaped(body, names.unfold)
    config = infer(body, source, names.norm_eps)
    own = UNTOLD["swin" if config.family == "swin" else "vit"]
    config = replace(config, **{name: known[name] for name in own if name in known})
    backbone = build_backbone(config, "mask_token" in body, drop_path=0.0)
    notes = [] if "mask_token" in body else ["the file holds no mask token; judging needs none"]
    if names.pooled and "norm.weight" not in body:
        backbone.register_module("norm", nn.Identity())
        notes.append("fine-tuned on the mean patch, it has no final norm: none is applied")
    if config.family == "swin":
        notes.append(f"trained on {config.image_size} px, as its windows say")
        by = "as it says" if "norm_eps" in known else "as its naming tells"
        notes.append(f"its LayerNorms have eps {config.norm_eps}, {by}")
    _fill(backbone, body, names.unknown, f"{source} does not fit {config.arch}")
    report = Report(tuple(names.body.values()), names.dropped, tuple(notes))
    return Adopted(backbone.eval(), config, head, tuple(names.head.values()), report)


def _sorted_names(keys: Iterable[str], source: str, network: str | None) -> _Names:
    own = plain_names(keys, source)
    part = divide(own, source, network)
    mine = {k: theirs for k, theirs in own.items() if k not in part.others}
    head = {m.group(1): k for k in mine if (m := part.head.fullmatch(k))}
    rest = {k: theirs for k, theirs in mine.items() if k not in head.values()}
    root = part.root
    inside = {k.removeprefix(root): theirs for k, theirs in rest.items() if k.startswith(root)}
    beside = {k: theirs for k, theirs in rest.items() if not k.startswith(root)}
    ours = _our_names(inside)
    dropped = _left_out([*ours.items(), *beside.items()])
    if part.others:
        dropped["another network"] = tuple(own[k] for k in own if k in part.others)
    gone = {key for names in dropped.values() for key in names}
    body = {k: theirs for k, theirs in ours.items() if theirs not in gone}
    found = {k: own[name] for k, name in head.items()}
    accounted = {*gone, *body.values(), *found.values()}
    unfold = any(k.startswith("stages.") for k in inside)
    others = any(re.match(r"layers\.3\.downsample\.|.*attn_mask$", k) for k in inside)
    return _Names(
        body,
        found,
        dropped,
        [k for k in keys if k not in accounted],
        "fc_norm.weight" in ours,
        unfold,
        OTHERS_EPS if unfold or others else BackboneConfig.norm_eps,
    )


def _our_names(t: dict[str, str]) -> dict[str, str]:
    """A backbone's tensors, by whatever stands for them, under our names."""
    if "patch_embed.projection.weight" in t:
        t = to_ours(t, MM_SWIN if any(k.startswith("stages.") for k in t) else MM_VIT)
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
    return t


def _left_out(names: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Of (name, the file's name): the file's names that are dropped on purpose, by reason."""
    dropped: dict[str, list[str]] = {}
    for name, theirs in names:
        reasons = (why for pattern, why in NOT_OURS.items() if re.fullmatch(pattern, name))
        if reason := next(reasons, None):
            dropped.setdefault(reason, []).append(theirs)
    return {reason: tuple(keys) for reason, keys in dropped.items()}


def _sound(tensors: Mapping[str, Tensor], key: str, source: str) -> Tensor:
    """The tensor in single precision, where it is one of weights; UserError if it cannot be."""
    tensor = tensors[key]
    if key.endswith("num_batches_tracked"):
        return tensor
    if said := unsound(tensor):
        raise UserError(f"{source} is unfit: its {key} {said}; get or save it anew.")
    return tensor.float()


def _reshaped(t: dict[str, Tensor], unfold: bool) -> dict[str, Tensor]:
    """Tensors under our names in our order of elements."""
    if unfold:
        t = {k: unfolded(v, back=True) if ".downsample." in k else v for k, v in t.items()}
    if (
        "pos_embed" in t
        and "register_tokens" in t
        and math.isqrt(n := t["pos_embed"].shape[1]) ** 2 == n
    ):  # timm adds the position of [CLS] to it beforehand
        t["pos_embed"] = torch.cat([torch.zeros_like(t["pos_embed"][:, :1]), t["pos_embed"]], dim=1)
    return t


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
