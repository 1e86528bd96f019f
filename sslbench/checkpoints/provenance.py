"""Decides what a checkpoint is: by what it says itself, its hash, the user's word, or its name.

Official scripts save their arguments beside the weights; `families/` says what they tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sslbench import plugins
from sslbench.checkpoints.download import release_of, releases
from sslbench.checkpoints.families import SWITCHES, TRAININGS, has_match
from sslbench.checkpoints.families.family import (
    HALF_RANGE,
    IMAGENET,
    Statistics,
    Training,
)
from sslbench.checkpoints.pickles import Inert, number
from sslbench.checkpoints.releases import RELEASES, Release
from sslbench.checkpoints.sources import UNKNOWN, sound_statistics
from sslbench.errors import UserError

PREFIX = 8  # digits of a SHA-256 that torch.hub's file names end in


@dataclass(frozen=True)
class Stated:
    """What a file states of its own training; empty where it states nothing.

    epochs: those done; views: area of the crops per image, see `Release`; mean, std: of inputs.
    """

    method: str = ""
    epochs: float = 0.0
    views: float = 1.0
    seed: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identified:
    """The release that a file is taken for, if any, and by what: one of `result.IDENTIFIED`.

    note: why its name is not believed.
    """

    release: Release | None
    by: str
    note: str = ""


def arguments(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the training script was called with."""
    args = container.get("args")
    return args if isinstance(args, Mapping) else vars(args) if isinstance(args, Inert) else {}


def identify(path: Path, sha256: str, wanted: str | None) -> Identified:
    """By hash where a release's is published, else as `wanted` (?as=), else by the file's name.

    Raises UserError where the user contradicts the hash.
    """
    known = (r for r in RELEASES if len(r.sha256) >= PREFIX and sha256.startswith(r.sha256))
    by_hash = next(known, None)
    if wanted == UNKNOWN:
        return Identified(None, "")
    if by_hash is not None:
        if wanted not in (None, by_hash.name):
            raise UserError(
                f"{path} is {by_hash.name}, as its SHA-256 shows, not {wanted}; leave out ?as=."
            )
        return Identified(by_hash, "hash")
    if wanted is not None:
        return Identified(releases()[wanted], "user")
    by_name = release_of(path)
    if by_name is not None and len(by_name.sha256) >= PREFIX:
        note = (
            f"its name says {by_name.name}, whose SHA-256 starts with {by_name.sha256}: it is not, "
            f"for its own starts with {sha256[:PREFIX]}"
        )
        return Identified(None, "", note)
    return Identified(by_name, "file name" if by_name else "")


def stated_by(container: Mapping[str, Any], network: Mapping[str, Any]) -> Stated:
    """What a file states of its training; network: the dict in it that holds the network."""
    args = arguments(container)
    training = _training(container, args, list(network))
    multi_crop = training is not None and training.multi_crop
    notes: list[str] = []
    epochs = 0.0
    saved, planned = number(container.get("epoch")), number(args.get("epochs"))
    if training and saved is not None and saved >= 0:
        epochs = float(saved) if multi_crop else saved + 1.0
        if planned is not None and epochs < planned:
            notes.append(f"saved after {epochs:g} of {planned:g} epochs")
    if isinstance(start := args.get("finetune"), str) and start:
        epochs = 0.0
        notes.append("it was fine-tuned, so its epochs say nothing of its pretraining")
    mean, std = _statistics(container, args)
    seed = number(args.get("seed"))
    return Stated(
        training.method if training else "",
        epochs,
        _views(args) if multi_crop else 1.0,
        seed if isinstance(seed, int) else None,
        mean,
        std,
        tuple(notes),
    )


def reconciled(stated: Stated, identified: Identified) -> tuple[Stated, Identified]:
    """What counts where a file and the release that it is taken for disagree; a note says so.

    The file counts more than its name, its hash and the user count more than the file.
    """
    release = identified.release
    if release is None:
        notes = (*stated.notes, identified.note) if identified.note else stated.notes
        by = "checkpoint" if stated.method else identified.by
        return replace(stated, notes=notes), replace(identified, by=by)
    by_name = identified.by == "file name"
    if differ := " and ".join(_differences(stated, release)):
        note = f"the file itself says {differ}; taken as {release.name} all the same"
        if by_name:
            note = f"its name says {release.name}, the file itself {differ}: it counts"
        stated = replace(stated, notes=(*stated.notes, note))
        if by_name:
            return stated, Identified(None, "checkpoint" if stated.method else "")
    own_epochs = bool(stated.epochs) and not differ
    own_views = own_epochs and stated.views != 1
    note = f"{release.name} by its file name, not verified; `?as=unknown` clears that"
    stated = replace(
        stated,
        method=release.method,
        epochs=stated.epochs if own_epochs else release.epochs,
        views=stated.views if own_views else release.views,
        notes=(*stated.notes, note) if by_name else stated.notes,
    )
    return stated, identified


def _differences(stated: Stated, release: Release) -> list[str]:
    differ = []
    if stated.method and stated.method != release.method:
        differ.append(f"the method {stated.method}, not {release.method}")
    if stated.epochs and release.epochs and round(stated.epochs, 2) != release.epochs:
        differ.append(f"{stated.epochs:g} epochs, not {release.epochs:g}")
    return differ


def _training(
    container: Mapping[str, Any], args: Mapping[str, Any], names: list[str]
) -> Training | None:
    """How a file was trained: by the loss it holds, its arguments, or names of its tensors."""
    methods = plugins.available(plugins.METHODS)
    if method := next((name for name in methods if f"{name}_loss" in container), None):
        return Training(method, multi_crop=True)
    for training in TRAININGS:
        if any(_has(args, argument) for argument in training.arguments):
            return training
    for training in TRAININGS:
        if training.names and all(has_match(pattern, names) for pattern in training.names):
            return training
    return None


def _has(args: Mapping[str, Any], wanted: str) -> bool:
    key, equals, start = wanted.partition("=")
    value = args.get(key)
    return key in args and (not equals or (isinstance(value, str) and value.startswith(start)))


def _views(args: Mapping[str, Any]) -> float:
    """Area of the crops per image, in global crops (`main_dino.py`, `main_ibot.py`)."""
    numbers = {name: v for name in args if (v := number(args[name])) is not None}
    scale = (numbers.get("local_crops_size") or 96) / (numbers.get("global_crops_size") or 224)
    local = max(numbers.get("local_crops_number", 0), 0)
    return numbers.get("global_crops_number", 2) + local * scale**2


def _statistics(container: Mapping[str, Any], args: Mapping[str, Any]) -> Statistics:
    """By a family's switch, timm's `pretrained_cfg` or lists in the arguments; () if by none."""
    for switch in SWITCHES:
        if isinstance(args.get(switch), bool):
            return IMAGENET if args[switch] else HALF_RANGE
    for stated in (container.get("pretrained_cfg"), args):
        if isinstance(stated, Mapping):
            mean, std = (_triple(name, stated.get(name)) for name in ("mean", "std"))
            if mean and std:
                return mean, std
    return (), ()


def _triple(name: str, value: Any) -> tuple[float, ...]:
    """Three numbers that can be a mean or a std (its `name`); () for anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return ()
    values = tuple(float(v) for one in value if (v := number(one)) is not None)
    return values if sound_statistics(name, values) else ()
