"""Reads checkpoints that others made: iBOT, DINO, BEiT, MAE, DeiT, DINOv2, timm, mmpretrain.

Which network of a full checkpoint is judged: the teacher where there is one (recipe trap T37), else
what the file's release says. A state dict saved by `sslbench convert` is read here too.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from sslbench import plugins
from sslbench.backbones.config import TRANSFORMERS
from sslbench.checkpoints.files import SUFFIXES, is_safetensors, suffix
from sslbench.checkpoints.folders import is_index, read_shards
from sslbench.checkpoints.layouts import Adopted, adopt
from sslbench.checkpoints.loaded import LoadedModel, Report, few
from sslbench.checkpoints.networks import select
from sslbench.checkpoints.ours import JUDGING, converted_card, read_checked
from sslbench.checkpoints.pickles import read_pickle
from sslbench.checkpoints.provenance import (
    HALF,
    Suggested,
    Told,
    agreed,
    arguments,
    suggested,
    told_by,
)
from sslbench.checkpoints.releases import RELEASES, Release
from sslbench.checkpoints.settings import Settings, check_settings, settings_beside, usual_eps
from sslbench.checkpoints.sources import split, statistics
from sslbench.checkpoints.transformers import check_known, is_of_transformers, translate
from sslbench.data.contents import file_sha256
from sslbench.errors import UserError
from sslbench.method import UNNORMED
from sslbench.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from sslbench.result import ModelCard
from sslbench.storage.weights import weights_sha256

log = logging.getLogger(__name__)
LARGEST = 384  # pixels; above, a file was trained on more than its features are judged on
JUDGED = 224
TIMM = "timm"
AMBIGUOUS = {r.url.rpartition("/")[2] for r in RELEASES} - {r.filename for r in RELEASES}


def read_official(path: Path, options: Mapping[str, str]) -> LoadedModel:
    """The model in a file of others; options: of its source, see `sources`.

    Raises UserError if it is none, or not what the options say it is.
    """
    beside = settings_beside(path)
    container, converted = _open(path)
    by = suggested(path, file_sha256(path), options.get("as"))
    if converted and by.identified == "file name":
        by = Suggested(None, "")  # its card says what it is
    preferred = by.release.key if by.release else None
    place, found, root = select(container, options.get("key"), preferred, path)
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(
            f"{path} holds arrays that are no tensors of torch ({few(list(found))}); save a state "
            "dict of tensors."
        )
    adopted = _adopted(tensors, path, root, beside, converted.get("known", {}))
    _check_archs(adopted.config.arch, options.get("arch"), by, path)
    told, by = agreed(_with(beside, told_by(container, found)), by)
    base = converted.get("model")
    method = base.method if base and "as" not in options else told.method or "unknown"
    head, adopted = _with_head(adopted, method, arguments(container))
    card = _card(adopted, head, told, by)
    mean, std, notes = _statistics(adopted, told, by.release, beside)
    poolings = _poolings(method, adopted.backbone)
    facts: dict[str, Any] = {"poolings": poolings, "image_size": _judged_at(adopted)}
    facts |= {"mean": mean, "std": std}
    if base:
        facts = {name: converted[name] for name in JUDGING}
        card = card if "as" in options else replace(base, sha256=card.sha256)
    facts |= statistics(options)
    notes = [*adopted.report.notes, *told.notes, *notes]
    dropped = dict(adopted.report.dropped)
    if others := tuple(k for k in found if k not in tensors):
        dropped["no tensors"] = others
    if place:
        notes.append(f"took {place!r} of {', '.join(map(str, container))}")
    notes += _unsaid(card, path, base is None)
    notes.append(f"inputs are normalised by mean {facts['mean']} and std {facts['std']}")
    report = Report(adopted.report.loaded, dropped, tuple(notes))
    return LoadedModel(adopted.backbone, card, head=head, report=report, **facts)


def _with(beside: Settings, told: Told) -> Told:
    """What a file says itself and, where it does not, the settings beside it."""
    mean, std = (told.mean, told.std) if told.mean else (beside.mean, beside.std)
    return replace(told, method=told.method or beside.method, mean=mean, std=std)


def _adopted(
    tensors: Mapping[str, Tensor],
    path: Path,
    root: str | None,
    beside: Settings,
    known: Mapping[str, Any],
) -> Adopted:
    """The backbone in `tensors`, in whosever layout; UserError if its settings do not fit it."""
    check_known(tensors, str(path))
    if not is_of_transformers(tensors):
        adopted = adopt(tensors, str(path), root, known or beside.known)
        normed = not isinstance(adopted.backbone.get_submodule("norm"), nn.Identity)
        check_settings(beside, adopted.config, normed, path)
        return adopted
    translated = translate(tensors, str(path))
    known, notes = {"resampling": TRANSFORMERS, **beside.known}, list[str]()
    if "norm_eps" not in known:
        known["norm_eps"] = eps = usual_eps(translated.tensors)
        notes = [f"no settings lie beside it: its LayerNorms are taken to have eps {eps}"]
    adopted = adopt(translated.tensors, str(path), root, known)
    check_settings(beside, adopted.config, translated.normed, path)
    report = translated.account(adopted.report)
    report = replace(report, notes=(*report.notes, *notes))
    return replace(adopted, report=report)


def _unsaid(card: ModelCard, path: Path, own: bool) -> list[str]:
    """What nobody says of a file, with the remedy; what a name alone says, its own, is logged."""
    if card.identified == "file name":
        whose = "its file name" if own else "the name of the file that it was converted from"
        log.warning(
            "%s is taken for %s by %s, not verified; add ?as=unknown to clear that.",
            path, card.recipe or card.method, whose,
        )  # fmt: skip
    if card.method != "unknown" and (card.recipe or path.name not in AMBIGUOUS):
        return []
    lacks = "which method trained it" if card.method == "unknown" else "which release it is"
    remedy = "rename it as `sslbench list weights` names it, e.g. ibot_vits16.pth"
    return [f"nothing says {lacks}; {remedy}, or add ?as=ibot_vits16"]


def _check_archs(found: str, wanted: str | None, by: Suggested, path: Path) -> None:
    check_arch(found, wanted, path, "was asked for")
    if by.release is not None:
        own = "its name promises (?as=unknown clears that)"
        promise = "?as= names" if by.identified == "user" else own
        check_arch(found, by.release.arch, path, promise)


def read_timm(text: str) -> LoadedModel:
    """Pretrained weights of timm, "timm:NAME", with timm's own mean and std."""
    place, options = split(text)
    name = place.removeprefix(f"{TIMM}:")
    if odd := [option for option in options if option in ("key", "as")]:
        raise UserError(f"{place} is one network that timm names; leave out ?{odd[0]}=.")
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
    adopted = adopt(model.state_dict(), place)
    check_arch(adopted.config.arch, options.get("arch"), place, "was asked for")
    tag = name.partition(".")[2]
    method = tag if tag in plugins.available(plugins.METHODS) else "unknown"
    tagged = method != "unknown"  # by timm's name for it, which nothing verifies
    card = _card(adopted, None, Told(method), Suggested(None, "file name" if tagged else ""))
    if tagged:
        log.warning("%s is taken for %s by timm's name for it, not verified.", place, method)
    facts: Any = model.pretrained_cfg
    mean_std = {"mean": facts["mean"], "std": facts["std"]} | statistics(options)
    size = _judged_at(adopted)
    poolings = _poolings(method, adopted.backbone)
    return LoadedModel(adopted.backbone, card, poolings, size, **mean_std, report=adopted.report)


def exported(backbone: nn.Module, head: nn.Module | None) -> dict[str, Tensor]:
    """The tensors of a model as a run exports them, over which its sha256 goes."""
    tensors = {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
    if head is not None:
        tensors |= {f"head.{k}": v for k, v in head.state_dict().items()}
    return tensors


def check_arch(found: str, wanted: str | None, path: Path | str, by: str) -> None:
    """Raises UserError if an architecture is wanted, `by` whom, and another one is found."""
    if wanted and wanted.lower().removesuffix(" rel") != found.lower().removesuffix(" rel"):
        raise UserError(
            f"{path} holds {found}, not the {wanted} that {by}; give the right file or arch."
        )


def _open(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """What a file holds, and what `convert` said of it where it wrote it."""
    if is_index(path):
        return read_shards(path), {}
    if not suffix(path):
        raise UserError(f"{path} is no file of weights; known endings are {', '.join(SUFFIXES)}.")
    if is_safetensors(path):
        tensors, card = read_checked(path)
        return tensors, converted_card(card["converted"], path) if "converted" in card else {}
    container = read_pickle(path)
    if not isinstance(container, Mapping):
        raise UserError(f"{path} holds a {type(container).__name__}, not a state dict.")
    return container, {}


def _poolings(method: str, backbone: nn.Module) -> tuple[str, ...]:
    """The features that the method is evaluated by, one form of each where there is no norm."""
    known = method in plugins.available(plugins.METHODS)
    poolings = plugins.load(plugins.METHODS, method).poolings if known else ("cls", "mean")
    without = isinstance(getattr(backbone, "norm", None), nn.Identity)
    return tuple(p for p in poolings if not (without and p == UNNORMED))


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


def _card(adopted: Adopted, head: nn.Module | None, told: Told, by: Suggested) -> ModelCard:
    return ModelCard(
        sha256=weights_sha256(exported(adopted.backbone, head)),
        method=told.method or "unknown",
        arch=adopted.config.arch,
        recipe=by.release.name if by.release else "",
        pretrain_data=by.release.data if by.release else "",
        epochs=round(told.epochs, 2),
        effective_epochs=round(told.epochs * told.views, 2),
        seed=told.seed,
        identified=by.identified,
    )


def _judged_at(adopted: Adopted) -> int:
    size = adopted.config.image_size
    return size if size <= LARGEST else JUDGED


def _statistics(
    adopted: Adopted, told: Told, release: Release | None, beside: Settings
) -> tuple[tuple[float, ...], tuple[float, ...], list[str]]:
    """Mean and std of its inputs, and a note where the file and its release disagree.

    The file counts, then its release; BEiT with relative positions saw [-1, 1] (beit/README.md).
    """
    half = release.half_range if release else adopted.config.positions != "absolute"
    usual = (HALF, HALF) if half else (IMAGENET_MEAN, IMAGENET_STD)
    if not told.mean and release is None and beside.usual:
        mean, std = beside.usual
        return mean, std, ["nothing gives its mean and std: taken as transformers' default for it"]
    if not told.mean:
        return *usual, []
    differ = release is not None and (told.mean, told.std) != usual
    note = f"the file gives mean {told.mean} and std {told.std}, not those of its release"
    return told.mean, told.std, [note] if differ else []
