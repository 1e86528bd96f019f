"""Reads checkpoints that others made: iBOT, DINO, BEiT, MAE, DeiT, DINOv2, timm, mmpretrain.

Which network of a full checkpoint is judged: the teacher where there is one (recipe trap T37), else
what the file's release says. A state dict saved by `sslbench convert` is read here too.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from sslbench import plugins
from sslbench.backbones.files import SUFFIXES, is_safetensors, suffix
from sslbench.backbones.layouts import Adopted, adopt
from sslbench.backbones.loaded import LoadedModel, Report
from sslbench.backbones.manifest import release_of
from sslbench.backbones.networks import select
from sslbench.backbones.ours import read_checked
from sslbench.backbones.pickles import Inert, number, read_pickle
from sslbench.backbones.weights import RELEASES, Release
from sslbench.config import IMAGENET_MEAN, IMAGENET_STD
from sslbench.errors import UserError
from sslbench.reporting.result import ModelCard
from sslbench.training.checkpoint import weights_sha256

LARGEST = 384  # pixels; above, a file was trained on more than its features are judged on
JUDGED = 224
TIMM = "timm"
HALF = (0.5, 0.5, 0.5)
AMBIGUOUS = {r.url.rpartition("/")[2] for r in RELEASES} - {r.filename for r in RELEASES}
# how to judge a model, as `convert` writes it beside its card
JUDGING = ("poolings", "image_size", "mean", "std")


def read_official(path: Path, options: Mapping[str, str]) -> LoadedModel:
    """The model in a file of others; options: of its source, see `sources`.

    Raises UserError if it is none, or not what the options say it is.
    """
    key, arch = options.get("key"), options.get("arch")
    container, converted = _open(path)
    release = release_of(path)
    place, found, root = select(container, key, release.key if release else None, path)
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)}
    adopted = adopt(tensors, str(path), root, converted.get("norm_eps"))
    check_arch(adopted.config.arch, arch, path, "was asked for")
    check_arch(adopted.config.arch, release.arch if release else None, path, "its name promises")
    said = _arguments(container)
    method = converted["model"].method if converted else _method(container, release)
    head, adopted = _with_head(adopted, method, said)
    card = _card(adopted, head, method, container, release)
    mean, std = _statistics(adopted, release)
    facts: dict[str, Any] = {
        "poolings": _poolings(method),
        "image_size": _judged_at(adopted),
        "mean": mean,
        "std": std,
    }
    if converted:
        card = replace(converted["model"], sha256=card.sha256)
        facts = {name: converted[name] for name in JUDGING}
    dropped, notes = dict(adopted.report.dropped), list(adopted.report.notes)
    if others := tuple(k for k in found if k not in tensors):
        dropped["no tensors"] = others
    if place:
        notes.append(f"took {place!r} of {', '.join(map(str, container))}")
    if card.method == "unknown" or (release is None and path.name in AMBIGUOUS):
        lacks = "which method trained it" if card.method == "unknown" else "which release it is"
        remedy = "rename it as `sslbench list weights` names it, e.g. ibot_vits16.pth"
        notes.append(f"nothing says {lacks}; {remedy}")
    notes.append(f"inputs are normalised by mean {facts['mean']} and std {facts['std']}")
    report = Report(adopted.report.loaded, dropped, tuple(notes))
    return LoadedModel(adopted.backbone, card, head=head, report=report, **facts)


def read_timm(text: str) -> LoadedModel:
    """Pretrained weights of timm, "timm:NAME", with timm's own mean and std."""
    name = text.removeprefix(f"{TIMM}:")
    known = timm.list_models() + timm.list_pretrained()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}" if close else "see timm.list_pretrained()"
        raise UserError(f"timm knows no model {name!r}; {hint}?")
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client fails in many ways
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{text} cannot be fetched ({reason}); download its file and give that as a path."
        ) from error
    adopted = adopt(model.state_dict(), text)
    tag = name.partition(".")[2]
    method = tag if tag in plugins.available(plugins.METHODS) else "unknown"
    card = _card(adopted, None, method, {}, None)
    facts: Any = model.pretrained_cfg
    mean, std = facts["mean"], facts["std"]
    size = _judged_at(adopted)
    poolings = _poolings(method)
    return LoadedModel(adopted.backbone, card, poolings, size, mean, std, report=adopted.report)


def exported(backbone: nn.Module, head: nn.Module | None) -> dict[str, Tensor]:
    """The tensors of a model as a run exports them, over which its sha256 goes."""
    tensors = {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
    if head is not None:
        tensors |= {f"head.{k}": v for k, v in head.state_dict().items()}
    return tensors


def check_arch(found: str, wanted: str | None, path: Path, by: str) -> None:
    """Raises UserError if an architecture is wanted, `by` whom, and another one is found."""
    if wanted and wanted.lower().removesuffix(" rel") != found.lower().removesuffix(" rel"):
        raise UserError(
            f"{path} holds {found}, not the {wanted} that {by}; give the right file or arch."
        )


def _open(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """What a file holds, and what `convert` said of it where it wrote it."""
    if not suffix(path):
        raise UserError(f"{path} is no file of weights; known endings are {', '.join(SUFFIXES)}.")
    if is_safetensors(path):
        tensors, card = read_checked(path)
        return tensors, _converted(card["converted"], path) if "converted" in card else {}
    container = read_pickle(path)
    if not isinstance(container, Mapping):
        raise UserError(f"{path} holds a {type(container).__name__}, not a state dict.")
    return container, {}


def _converted(said: Any, path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
        return {name: facts[name] for name in JUDGING} | {
            "model": replace(ModelCard(**facts["model"]), source="", label="", file_sha256=""),
            "norm_eps": float(facts["norm_eps"]),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the card in {path} is damaged; convert its source again.") from error


def _arguments(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the training script was called with."""
    args = container.get("args")
    return args if isinstance(args, Mapping) else vars(args) if isinstance(args, Inert) else {}


def _method(container: Mapping[str, Any], release: Release | None) -> str:
    """A full checkpoint holds its loss's state under the method's name; else the release knows."""
    named = (n for n in plugins.available(plugins.METHODS) if f"{n}_loss" in container)
    return next(named, release.method if release else "unknown")


def _poolings(method: str) -> tuple[str, ...]:
    if method in plugins.available(plugins.METHODS):
        return plugins.load(plugins.METHODS, method).poolings
    return ("cls", "mean")


def _with_head(
    adopted: Adopted, method: str, said: Mapping[str, Any]
) -> tuple[nn.Module | None, Adopted]:
    """The method's head with its weights; one that cannot be rebuilt is dropped with a reason."""
    if not adopted.head:
        return None, adopted
    head, why = None, f"a projection head that {method!r} cannot rebuild"
    if (activation := said.get("act_in_head", "gelu")) != "gelu":  # ibot/models/head.py:163-170
        why = f"a projection head with {activation!r} for an activation, not GELU"
    elif method in plugins.available(plugins.METHODS):
        head = plugins.load(plugins.METHODS, method).official_head(adopted.head)
    report = adopted.report
    if head is not None:
        report = replace(report, loaded=(*report.loaded, *adopted.head_keys))
        head.eval()
    else:
        report = replace(report, dropped={**report.dropped, why: adopted.head_keys})
    return head, replace(adopted, report=report)


def _card(
    adopted: Adopted,
    head: nn.Module | None,
    method: str,
    container: Mapping[str, Any],
    release: Release | None,
) -> ModelCard:
    given = {k: number(v) for k, v in _arguments(container).items()}
    said = {k: v for k, v in given.items() if v is not None}
    epochs, views = (release.epochs, release.views) if release else (0.0, 1.0)
    done = number(container.get("epoch"))
    if f"{method}_loss" in container and done is not None:
        epochs = float(done)  # finished ones (`ibot/main_ibot.py`, `dino/main_dino.py`)
        sizes = (said.get("local_crops_size") or 96) / (said.get("global_crops_size") or 224)
        views = said.get("global_crops_number", 2) + said.get("local_crops_number", 0) * sizes**2
    seed = said.get("seed")
    return ModelCard(
        sha256=weights_sha256(exported(adopted.backbone, head)),
        method=method,
        arch=adopted.config.arch,
        recipe=release.name if release else "",
        pretrain_data=release.data if release else "",
        epochs=round(epochs, 2),
        effective_epochs=round(epochs * views, 2),
        seed=seed if isinstance(seed, int) else None,
    )


def _judged_at(adopted: Adopted) -> int:
    size = adopted.config.image_size
    return size if size <= LARGEST else JUDGED


def _statistics(
    adopted: Adopted, release: Release | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of its inputs: BEiT with relative positions saw [-1, 1] (beit/README.md)."""
    half = release.half_range if release else adopted.config.positions != "absolute"
    return (HALF, HALF) if half else (IMAGENET_MEAN, IMAGENET_STD)
