"""Reads checkpoints that others made: opens the file, chooses a network in it, builds its card.

What is known of each project's files is in `families/`. A full checkpoint's teacher is evaluated
where there is one, else what the file's release says. A state dict saved by `sslbench convert` is
read here too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sslbench import plugins
from sslbench.checkpoints.adopt import Adopted, adopt
from sslbench.checkpoints.families.family import HALF_RANGE, IMAGENET, Statistics
from sslbench.checkpoints.families.timm import HUB, download
from sslbench.checkpoints.families.transformers import check_settings
from sslbench.checkpoints.files import MAIN, SUFFIXES, is_index, is_safetensors, suffix
from sslbench.checkpoints.folders import CONFIG, Settings, read_shards, settings_beside
from sslbench.checkpoints.loaded import LoadedModel, Tuned, shortened
from sslbench.checkpoints.networks import select
from sslbench.checkpoints.noted import read_note
from sslbench.checkpoints.ours import EVALUATED_BY, converted_card, read_checked
from sslbench.checkpoints.pickles import read_pickle
from sslbench.checkpoints.provenance import (
    Identified,
    Stated,
    arguments,
    identify,
    reconciled,
    stated_by,
)
from sslbench.checkpoints.releases import RELEASES, Release
from sslbench.checkpoints.sources import split
from sslbench.checkpoints.sources import statistics as given_statistics
from sslbench.data.contents import file_sha256
from sslbench.errors import UserError
from sslbench.method import UNNORMED
from sslbench.result import ModelCard
from sslbench.storage.weights import weights_sha256

log = logging.getLogger(__name__)
LARGEST = 384  # pixels; what was trained on larger images is evaluated at `USUAL`
USUAL = 224
UNKNOWN = "unknown"  # method
AMBIGUOUS = {r.url.rpartition("/")[2] for r in RELEASES} - {r.filename for r in RELEASES}


def read_others(path: Path, options: Mapping[str, str]) -> LoadedModel:
    """The model in a file of others; options: of its source, see `sources`.

    Raises UserError if it holds none, or not what the options say.
    """
    container, converted = opened(path)
    noted = read_note(container, path)
    settings = noted or (settings_beside(path) if path.name in MAIN else Settings())
    identified = identify(path, file_sha256(path), options.get("as"))
    if (converted or noted) and identified.by == "file name":
        identified = Identified(None, "")  # its card says what it is
    preferred = identified.release.key if identified.release else None
    place, network, root = select(container, options.get("key"), preferred, path)

    adopted = _adopted(network, path, root, settings, converted.get("known", {}))
    _check_archs(adopted.config.arch, options.get("arch"), identified, path)

    stated = _completed(stated_by(container, network), settings)
    stated, identified = reconciled(stated, identified)
    original: ModelCard | None = converted.get("model")
    method = original.method if original and "as" not in options else stated.method or UNKNOWN
    head, adopted = _with_head(adopted, method, arguments(container))
    card = _card(adopted, head, stated, identified)
    statistics, notes = _statistics(adopted, stated, identified.release, settings)
    model = replace(_model(adopted, card, method, statistics), head=head)
    model = replace(model, tuned=_tuned(adopted, settings))
    if original:
        card = card if "as" in options else replace(original, sha256=card.sha256)
        model = replace(model, card=card, **{name: converted[name] for name in EVALUATED_BY})
    model = _with_options(model, options)

    notes = [*adopted.report.notes, *stated.notes, *notes]
    notes += [f"took {place!r} of {', '.join(map(str, container))}"] if place else []
    notes += _unsaid(card, path, original is None)
    notes += [f"inputs are normalised by mean {model.mean} and std {model.std}"]
    return replace(model, report=replace(adopted.report, notes=tuple(notes)))


def _tuned(adopted: Adopted, settings: Settings) -> Tuned | None:
    """The fine-tuned classifier beside a backbone; a norm alone is none."""
    if set(adopted.classifier) <= {"norm.weight", "norm.bias"}:
        return None
    told = (settings.reads, settings.interpolation, settings.crop_ratio)
    return Tuned(adopted.classifier, *told)


def read_timm(text: str) -> LoadedModel:
    """Pretrained weights of timm, "timm:NAME", with timm's own mean and std."""
    place, options = split(text)
    name = place.removeprefix(f"{HUB}:")
    if odd := [option for option in options if option in ("key", "as")]:
        raise UserError(f"{place} is one network that timm names; leave out ?{odd[0]}=.")
    tensors, statistics = download(name, text)
    adopted = adopt(tensors, place)
    check_arch(adopted.config.arch, options.get("arch"), place, "was asked for")
    tag = name.partition(".")[2]
    method, by = (tag, "file name") if tag in plugins.available(plugins.METHODS) else (UNKNOWN, "")
    if by:
        _warn_once(f"{place} is taken for {method} by timm's name for it, not verified.")
    card = _card(adopted, None, Stated(method), Identified(None, by))
    return _with_options(_model(adopted, card, method, statistics), options)


def exported(backbone: nn.Module, head: nn.Module | None) -> dict[str, Tensor]:
    """The tensors of a model as a run exports them, over which its sha256 goes."""
    tensors = {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
    if head is not None:
        tensors |= {f"head.{k}": v for k, v in head.state_dict().items()}
    return tensors


def check_arch(arch: str, wanted: str | None, path: Path | str, by: str) -> None:
    """Raises UserError if an architecture is wanted, `by` whom, and `path` holds another one."""
    if wanted and wanted.lower().removesuffix(" rel") != arch.lower().removesuffix(" rel"):
        raise UserError(
            f"{path} holds {arch}, not the {wanted} that {by}; give the right file or arch."
        )


def _check_archs(arch: str, wanted: str | None, identified: Identified, path: Path) -> None:
    check_arch(arch, wanted, path, "was asked for")
    if identified.release is not None:
        by_name = "its name promises (?as=unknown clears that)"
        by = "?as= names" if identified.by == "user" else by_name
        check_arch(arch, identified.release.arch, path, by)


def opened(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """What a file holds, and what `convert` wrote about it, {} if it is no file of `convert`."""
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


def _adopted(
    network: Mapping[str, Any],
    path: Path,
    root: str | None,
    settings: Settings,
    converted: Mapping[str, Any],
) -> Adopted:
    """The backbone in a dict of any layout; UserError if the settings beside it do not fit it.

    converted: settings that shapes do not tell, as `convert` wrote them.
    """
    tensors = {k: v for k, v in network.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(
            f"{path} holds arrays that are no tensors of torch ({shortened(list(network))}); save "
            "a state dict of tensors."
        )
    adopted = adopt(tensors, str(path), root, converted or settings.known)
    if settings.config:
        check_settings(
            settings.config, adopted.config, adopted.normed, path.parent / CONFIG, path.name
        )
    rest = tuple(k for k in network if k not in tensors)
    dropped = {**adopted.report.dropped, **({"no tensors": rest} if rest else {})}
    return replace(adopted, report=replace(adopted.report, dropped=dropped))


def _completed(stated: Stated, settings: Settings) -> Stated:
    """What a file says itself and, where it does not, the settings beside it."""
    mean, std = (stated.mean, stated.std) if stated.mean else (settings.mean, settings.std)
    return replace(stated, method=stated.method or settings.method, mean=mean, std=std)


def _with_head(
    adopted: Adopted, method: str, args: Mapping[str, Any]
) -> tuple[nn.Module | None, Adopted]:
    """The method's head with its weights; one that cannot be rebuilt is dropped with a reason."""
    if not adopted.head:
        return None, adopted
    head, why = None, f"a projection head that {method!r} cannot rebuild"
    if (activation := args.get("act_in_head", "gelu")) != "gelu":  # ibot/models/head.py:163-170
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
    adopted: Adopted, head: nn.Module | None, stated: Stated, identified: Identified
) -> ModelCard:
    return ModelCard(
        sha256=weights_sha256(exported(adopted.backbone, head)),
        method=stated.method or UNKNOWN,
        arch=adopted.config.arch,
        recipe=identified.release.name if identified.release else "",
        pretrain_data=identified.release.data if identified.release else "",
        epochs=round(stated.epochs, 2),
        effective_epochs=round(stated.epochs * stated.views, 2),
        seed=stated.seed,
        identified=identified.by,
    )


def _poolings(method: str, backbone: nn.Module) -> tuple[str, ...]:
    """The features that the method is evaluated by, one form of each where there is no norm."""
    installed = method in plugins.available(plugins.METHODS)
    poolings = plugins.load(plugins.METHODS, method).poolings if installed else ("cls", "mean")
    without = isinstance(getattr(backbone, "norm", None), nn.Identity)
    return tuple(p for p in poolings if not (without and p == UNNORMED))


def _with_options(model: LoadedModel, options: Mapping[str, str]) -> LoadedModel:
    """With the mean and std that the user gives."""
    given = given_statistics(options)
    return replace(model, mean=given.get("mean", model.mean), std=given.get("std", model.std))


def _model(adopted: Adopted, card: ModelCard, method: str, statistics: Statistics) -> LoadedModel:
    size = adopted.config.image_size
    return LoadedModel(
        adopted.backbone,
        card,
        _poolings(method, adopted.backbone),
        size if size <= LARGEST else USUAL,
        *statistics,
        report=adopted.report,
    )


def _statistics(
    adopted: Adopted, stated: Stated, release: Release | None, settings: Settings
) -> tuple[Statistics, list[str]]:
    """Mean and std of its inputs, and a note where the file and its release disagree.

    What the file says comes first, then its release, then its family.
    """
    usual = HALF_RANGE if (release or adopted).half_range else IMAGENET
    if not stated.mean and release is None and settings.usual:
        default = "nothing gives its mean and std: taken as transformers' default for it"
        return settings.usual, [default]
    if not stated.mean:
        return usual, []
    differ = release is not None and (stated.mean, stated.std) != usual
    note = f"the file gives mean {stated.mean} and std {stated.std}, not those of its release"
    return (stated.mean, stated.std), [note] if differ else []


def _unsaid(card: ModelCard, path: Path, unconverted: bool) -> list[str]:
    """What nothing says of a file, with the remedy; what its name alone says is logged."""
    if card.identified == "file name":
        name = "its file name" if unconverted else "the name of the file that it was converted from"
        taken = f"{path} is taken for {card.recipe or card.method} by {name}, not verified"
        _warn_once(f"{taken}; add ?as=unknown to clear that.")
    if card.method != UNKNOWN and (card.recipe or path.name not in AMBIGUOUS):
        return []
    lacks = "which method trained it" if card.method == UNKNOWN else "which release it is"
    remedy = "rename it as `sslbench list weights` names it, e.g. ibot_vits16.pth"
    return [f"nothing says {lacks}; {remedy}, or add ?as=ibot_vits16"]


@cache
def _warn_once(sentence: str) -> None:
    """Log a warning; a training reads the weights that it starts from several times."""
    log.warning("%s", sentence)
