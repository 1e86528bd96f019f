"""Reads checkpoints that others made: iBOT, DINO, BEiT, MAE, DeiT, DINOv2, timm, mmpretrain.

Which network of a full checkpoint is judged: the teacher where there is one (recipe trap T37), else
what the file's release says. A state dict saved by `sslbench convert` is read here too.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from sslbench import plugins
from sslbench.backbones.layouts import Adopted, adopt
from sslbench.backbones.loaded import LoadedModel, Report
from sslbench.backbones.manifest import release_of
from sslbench.backbones.pickles import Inert, read_pickle
from sslbench.backbones.weights import Release
from sslbench.config import IMAGENET_MEAN, IMAGENET_STD
from sslbench.errors import UserError, nearest
from sslbench.reporting.result import ModelCard
from sslbench.training.checkpoint import read_weights, weights_sha256

SUFFIXES = (".pth", ".pt", ".bin", ".pkl", ".ckpt", ".safetensors")
NETWORKS = ("teacher", "student", "state_dict", "model", "model_state_dict", "module")
LARGEST = 384  # pixels; above, a file was trained on more than its features are judged on
JUDGED = 224
TIMM = "timm"
HALF = (0.5, 0.5, 0.5)


def read_official(path: Path, key: str | None = None, arch: str | None = None) -> LoadedModel:
    """The model in a file of others; UserError if it is none, or not what `arch` says it is."""
    container, about = _open(path)
    release = release_of(path)
    network, tensors = _select(container, key, release.key if release else None, path)
    adopted = adopt({k: v for k, v in tensors.items() if isinstance(v, Tensor)}, str(path), key)
    _check_arch(adopted, path, arch, release)
    method = about["model"]["method"] if about else _method(container, release)
    head, adopted = _with_head(adopted, method)
    card = _card(adopted, head, method, container, release, path.name)
    mean, std = _statistics(adopted, release)
    facts: dict[str, Any] = {
        "poolings": _poolings(method),
        "image_size": _judged_at(adopted),
        "mean": mean,
        "std": std,
    }
    if about:  # saved by `convert`, with its card
        card = ModelCard(**{**about.pop("model"), "sha256": card.sha256})
        facts |= {k: tuple(v) if isinstance(v, list) else v for k, v in about.items()}
    dropped, notes = dict(adopted.report.dropped), list(adopted.report.notes)
    if others := tuple(k for k, v in tensors.items() if not isinstance(v, Tensor)):
        dropped["no tensors"] = others
    if network:
        notes.append(f"took {network!r} of {', '.join(container)}")
    if card.method == "unknown":
        notes.append("nothing says which method trained it; name the file as its release does")
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
    card = _card(adopted, None, method, {}, None, name)
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


def _open(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is no file of weights; known endings are {', '.join(SUFFIXES)}.")
    if path.suffix == ".safetensors":
        tensors, card = read_weights(path)
        return tensors, card.get("converted", {})
    container = read_pickle(path)
    if not isinstance(container, Mapping):
        raise UserError(f"{path} holds a {type(container).__name__}, not a state dict.")
    return container, {}


def _select(
    container: Mapping[str, Any], key: str | None, preferred: str | None, path: Path
) -> tuple[str, dict[str, Any]]:
    """The state dict of a checkpoint and what it is called there, "" if it is all there is."""
    networks = [k for k in container if isinstance(container[k], Mapping)]
    if key and networks and key not in networks:
        raise UserError(f"{path} has no {key!r}: {nearest(key, networks)}.")
    order = [k for k in (key, preferred, *NETWORKS) if k in networks]
    chosen = container[order[0]] if order else container
    return (order[0] if order else "", dict(chosen))


def _check_arch(adopted: Adopted, path: Path, arch: str | None, release: Release | None) -> None:
    found = adopted.config.arch
    for wanted, by in ((arch, "was asked for"), (release and release.arch, "its name promises")):
        if wanted and wanted.lower().removesuffix(" rel") != found.lower().removesuffix(" rel"):
            raise UserError(
                f"{path} holds {found}, not the {wanted} that {by}; give the right file or arch."
            )


def _method(container: Mapping[str, Any], release: Release | None) -> str:
    """A full checkpoint holds its loss's state under the method's name; else the release knows."""
    named = (n for n in plugins.available(plugins.METHODS) if f"{n}_loss" in container)
    return next(named, release.method if release else "unknown")


def _poolings(method: str) -> tuple[str, ...]:
    if method in plugins.available(plugins.METHODS):
        return plugins.load(plugins.METHODS, method).poolings
    return ("cls", "mean")


def _with_head(adopted: Adopted, method: str) -> tuple[nn.Module | None, Adopted]:
    """The method's head with its weights; one that cannot be rebuilt is dropped with a reason."""
    if not adopted.head:
        return None, adopted
    known = method in plugins.available(plugins.METHODS)
    head = plugins.load(plugins.METHODS, method).official_head(adopted.head) if known else None
    keys = tuple(f"head.{k}" for k in adopted.head)
    report = adopted.report
    if head is not None:
        report = Report((*report.loaded, *keys), report.dropped, report.notes)
        head.eval()
    else:
        why = f"a projection head that {method!r} cannot rebuild"
        report = Report(report.loaded, {**report.dropped, why: keys}, report.notes)
    return head, Adopted(adopted.backbone, adopted.config, adopted.head, report)


def _card(
    adopted: Adopted,
    head: nn.Module | None,
    method: str,
    container: Mapping[str, Any],
    release: Release | None,
    source: str,
) -> ModelCard:
    args = container.get("args")
    said = vars(args) if isinstance(args, Inert) else {}
    epochs, views = (release.epochs, release.views) if release else (0.0, 1.0)
    if f"{method}_loss" in container and isinstance(container.get("epoch"), int):
        epochs = float(
            container["epoch"]
        )  # finished ones (`ibot/main_ibot.py`, `dino/main_dino.py`)
        views = (
            said.get("global_crops_number", 2)
            + said.get("local_crops_number", 0)
            * ((said.get("local_crops_size") or 96) / (said.get("global_crops_size") or 224)) ** 2
        )
    return ModelCard(
        sha256=weights_sha256(exported(adopted.backbone, head)),
        method=method,
        arch=adopted.config.arch,
        recipe=release.name if release else "",
        pretrain_data=release.data if release else "",
        epochs=round(epochs, 2),
        effective_epochs=round(epochs * views, 2),
        seed=said.get("seed"),
        source=source,
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
