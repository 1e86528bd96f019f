"""Writes a model for other programs: safetensors of ours, timm's names, or mmpretrain's."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints.families import mmpretrain, swin, timm, to_theirs
from sslbench.checkpoints.files import PICKLED, SAFETENSORS, stem, suffix
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.loaded import LoadedModel, Report
from sslbench.checkpoints.noted import with_note
from sslbench.checkpoints.others import exported
from sslbench.checkpoints.ours import EVALUATED_BY, read_checked
from sslbench.checkpoints.runs import weights_file
from sslbench.checkpoints.sources import split
from sslbench.errors import UserError, nearest
from sslbench.storage.home import expanded
from sslbench.storage.layout import WEIGHTS
from sslbench.storage.sealed import save_pickled
from sslbench.storage.weights import save_weights

STYLES = {"safetensors": (SAFETENSORS,), "timm": PICKLED, "mmpretrain": PICKLED}  # -> endings
WRITERS = {"timm": timm.for_writing, "mmpretrain": mmpretrain.for_writing}


def convert(source: str, style: str, out: Path | None = None) -> tuple[Path, Report]:
    """Writes the model behind `source` in a style of `STYLES`; the file and an account of the keys.

    safetensors: backbone and head under our names, with card and preprocessing; `load_backbone`
    gives back the same model. timm: what its `load_state_dict` takes with num_classes=0, or with
    the classes of a fine-tuned run.
    mmpretrain: {"state_dict": ...} below "backbone.". out: unset, the source's name with the style.
    Raises UserError, with nothing written.
    """
    if style not in STYLES:
        raise UserError(f"unknown style {style!r}: {nearest(style, STYLES)}.")
    if out and suffix(out) not in STYLES[style]:
        raise UserError(
            f"--out {out} does not fit --to {style}: name it {stem(out)}{STYLES[style][0]}."
        )
    model = load_backbone(source)
    config = getattr(model.backbone, "config", None)
    if not isinstance(config, BackboneConfig) or "norm.weight" not in model.backbone.state_dict():
        raise UserError(f"{source} is no pretrained backbone with a final norm; give another.")
    if style == "mmpretrain" and config.registers:
        raise UserError("mmpretrain's ViT has no registers; choose --to timm or safetensors.")
    path = out or Path(f"{_name(source)}_{style}{STYLES[style][0]}")
    if path.exists():
        raise UserError(f"{path} exists already; choose another --out.")
    if style == "safetensors" and model.reads:  # its recipe tells how its classifier is built
        save_weights(path, *read_checked(weights_file(split(source)[0])))
    elif style == "safetensors":
        _save_ours(model, config, path)
    else:
        kept = {k: v.cpu() for k, v in model.backbone.state_dict().items() if k != "mask_token"}
        theirs = to_theirs(*WRITERS[style](kept, config))
        if style == "timm" and (classifier := _for_timm(model)):
            if "fc_norm.weight" in classifier:  # timm has one of both norms
                theirs = {k: v for k, v in theirs.items() if not k.startswith("norm.")}
            theirs = with_note({**theirs, **classifier}, model)
        below = {f"backbone.{k}": v for k, v in theirs.items()}
        save_pickled(path, {"state_dict": below} if style == "mmpretrain" else theirs)
    return path, _report(model, config, style)


def _report(model: LoadedModel, config: BackboneConfig, style: str) -> Report:
    """What became of every key, and what a user of the file has to set."""
    classifier = model.classifier.state_dict() if model.classifier is not None else {}
    keys = (*exported(model.backbone, model.head), *(f"classifier.{k}" for k in classifier))
    report = model.report or Report(keys)
    if style == "safetensors":
        return report
    placed = style == "timm" and bool(_for_timm(model))
    lost = tuple(
        k
        for k in keys
        if k.startswith("head.")
        or k == "backbone.mask_token"
        or (k.startswith("classifier.") and not placed)
    )
    if lost:
        report = replace(report, dropped={**report.dropped, f"{style} has no place for it": lost})
    usual = swin.NORM_EPS if config.family == "swin" else BackboneConfig.norm_eps
    if config.norm_eps != usual:
        kind = "Swin" if config.family == "swin" else "ViT"
        note = f"{style}'s {kind} is to be built with LayerNorms of eps {config.norm_eps}"
        report = replace(report, notes=(*report.notes, f"{note}, not its own {usual}"))
    return report


def _for_timm(model: LoadedModel) -> dict[str, Tensor]:
    """A fine-tuned classifier under timm's names; {} where timm has no place for it."""
    tensors = model.classifier.state_dict() if model.classifier is not None else {}
    swin = getattr(model.backbone, "config", BackboneConfig()).family == "swin"
    names = {"linear": "head.fc"} if swin else {"norm": "fc_norm", "linear": "head"}
    if not model.reads or any(name.partition(".")[0] not in names for name in tensors):
        return {}
    parts = {name: name.partition(".") for name in tensors}
    return {f"{names[parts[k][0]]}.{parts[k][2]}": v.cpu() for k, v in tensors.items()}


def _name(source: str) -> str:
    """The stem of a converted file: a run's directory, a file's stem, or the source itself."""
    place, _ = split(source)
    path = expanded(place)
    if path.exists():
        path = path.resolve().parent if path.name == WEIGHTS else path.absolute()
        return path.resolve().name if path.is_dir() else stem(path)
    return stem(Path(re.sub(r"[:/@?]", "_", place.removeprefix(f"{timm.HUB}:"))))


def _save_ours(model: LoadedModel, config: BackboneConfig, path: Path) -> None:
    about = {"model": asdict(model.card), **{name: getattr(model, name) for name in EVALUATED_BY}}
    about |= {"norm_eps": config.norm_eps, "resampling": config.resampling}
    save_weights(path, exported(model.backbone, model.head), {"converted": about})
