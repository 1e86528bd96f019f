"""Fits a state dict of others to a backbone of ours, with every key accounted for.

The architecture is inferred from the names and shapes of the tensors, once they are under our
names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.build import build_backbone, check_shapes, infer_config
from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints.families import (
    check_readable,
    classifier_part,
    reason_to_drop,
    to_our_names,
    translated,
)
from sslbench.checkpoints.families.family import CLASSIFIER, Layout, Origins, Translation
from sslbench.checkpoints.loaded import Report, shortened
from sslbench.checkpoints.networks import divide, plain_names
from sslbench.errors import UserError

# settings of a `BackboneConfig` that shapes do not tell, by family
UNTOLD = {
    "vit": ("norm_eps", "resampling"),
    "beit": ("norm_eps", "resampling"),
    "swin": ("norm_eps", "image_size"),
}


@dataclass(frozen=True)
class Adopted:
    """A backbone with its weights in eval mode, and a projection head's tensors as they were.

    head: names below "head." -> tensors; head_keys: their names in the file. classifier: names as
    `_Names` has them -> tensors that nothing checked. normed: the network itself ends in a norm, as
    its file says. half_range: its naming says that inputs were in [-1, 1].
    """

    backbone: Backbone
    config: BackboneConfig
    head: dict[str, Tensor]
    head_keys: tuple[str, ...]
    classifier: dict[str, Tensor]
    normed: bool
    half_range: bool
    report: Report


@dataclass(frozen=True)
class _Names:
    """The names of a flat dict by what becomes of their tensors.

    body: our names -> keys in the file; head: names below "head." of the projection head -> keys;
    classifier: names in `tuned.Classifier` of a fine-tuned classifier -> keys, and keys of its that
    have no such name -> themselves; they are among `dropped`: reason -> keys. unknown: keys that
    nothing explains; layouts: that the body was in;
    translation: of the whole dict, where it was translated; pooled: the mean patch has a norm.
    """

    body: Origins
    head: Origins
    classifier: Origins
    dropped: Origins
    unknown: list[str]
    layouts: tuple[Layout, ...]
    translation: Translation | None
    pooled: bool


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
    names = _sorted_names(tensors, source, network)
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
        _flat(names.head.values()),
        {part: tensors[key] for part, (key,) in names.classifier.items()},
        names.translation.normed if names.translation else normed,
        any(layout.half_range for layout in names.layouts),
        Report(_flat(names.body.values()), names.dropped, notes),
    )


def _sorted_names(keys: Iterable[str], source: str, wanted: str | None) -> _Names:
    """The keys of a flat dict by what becomes of them; wanted: which of several backbones.

    Raises UserError if there is no backbone, several to choose from, or one that cannot be read.
    """
    keys = list(keys)
    check_readable(keys, source)
    plain_keys = plain_names(keys, source)
    translation = translated(plain_keys, source)
    origins = translation.origins if translation else {k: (v,) for k, v in plain_keys.items()}
    part = divide(origins, source, wanted)
    mine = {name: origins[name] for name in origins if name not in part.others}
    head = {m.group(1): mine[name] for name in mine if (m := part.head.fullmatch(name))}
    rest = {name: mine[name] for name in mine if not part.head.fullmatch(name)}
    inside = {
        name.removeprefix(part.root): rest[name] for name in rest if name.startswith(part.root)
    }
    beside = {name: rest[name] for name in rest if not name.startswith(part.root)}
    ours, layouts = to_our_names(inside)
    dropped, classifier = Origins(), Origins()
    for name, theirs in [*ours.items(), *beside.items()]:
        if reason := reason_to_drop(name):
            dropped[reason] = (*dropped.get(reason, ()), *theirs)
        if reason == CLASSIFIER:
            place = classifier_part(name)
            classifier[theirs[0] if place is None or place in classifier else place] = theirs
    if part.others:
        dropped["another network"] = _flat(origins[k] for k in origins if k in part.others)
    gone = set(_flat(dropped.values()))
    body = {name: theirs for name, theirs in ours.items() if not gone.intersection(theirs)}
    accounted = {*gone, *_flat(body.values()), *_flat(head.values())}
    unknown = [key for key in keys if key not in accounted]
    pooled = "fc_norm.weight" in ours
    return _Names(body, head, classifier, dropped, unknown, layouts, translation, pooled)


def _flat(origins: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """All keys in one tuple."""
    return tuple(key for keys in origins for key in keys)


def _config(
    body: Mapping[str, Tensor], source: str, names: _Names, known: Mapping[str, Any]
) -> BackboneConfig:
    """The architecture of tensors under our names."""
    by_layout = (layout.norm_eps for layout in names.layouts if layout.norm_eps)
    config = infer_config(body, source, next(by_layout, BackboneConfig.norm_eps))
    known = {**(names.translation.usual if names.translation else {}), **known}
    return replace(config, **{k: known[k] for k in UNTOLD[config.family] if k in known})


def _notes(
    config: BackboneConfig,
    body: Mapping[str, Tensor],
    normed: bool,
    names: _Names,
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
