"""Loads the models to evaluate, and the floors that they are compared with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sslbench.checkpoints.classifier import RELEASED, read_classifier
from sslbench.checkpoints.files import is_index, is_safetensors
from sslbench.checkpoints.floors import PIXELS, random_source
from sslbench.checkpoints.load import LoadedModel, load_backbone, read_card
from sslbench.checkpoints.sources import named, split
from sslbench.checkpoints.tuned import with_tuned_classifier
from sslbench.errors import UserError
from sslbench.evaluation.jobs import LeftOut, sentence
from sslbench.storage.home import expanded
from sslbench.storage.layout import WEIGHTS, has_state
from sslbench.system.printing import printable
from sslbench.training.export import export_run

# how images are prepared for a classifier that others released
EVALUATED = ("image_size", "interpolation", "crop_ratio")
log = logging.getLogger(__name__)


def with_weights(source: str) -> str:
    """`source`; for a run that has not ended, the exported weights of its newest checkpoint."""
    label, place = named(source)
    folder = expanded(place)
    if not has_state(folder) or (folder / WEIGHTS).exists():
        return source
    path = export_run(folder)
    log.warning("%s has not ended; its newest checkpoint is evaluated: %s.", folder, path.name)
    return f"{label}={path}" if label else str(path)


def source_of_start(model: LoadedModel) -> LoadedModel | None:
    """The weights that the run behind `model` started from; None for fresh ones.

    None too, with a warning, where they are no longer what the run read.
    """
    if not (facts := model.card.started_from):
        return None
    recipe = read_card(split(model.source)[0]).get("recipe", {})
    place = str(recipe.get("init", {}).get("source", ""))
    try:
        start = load_backbone(place)
        reason = "" if start.card.sha256 == facts.get("sha256") else "its weights were replaced"
    except UserError as error:
        reason = str(error).removesuffix(".")
    if not reason:
        return start
    log.warning(
        "%s started from %s, which is not evaluated beside it: %s.",
        printable(model.card.source), facts.get("name", place), reason,
    )  # fmt: skip
    return None


def load_models(
    sources: Sequence[str], classifier: Path | None
) -> tuple[dict[str, LoadedModel], list[LeftOut]]:
    """The models of `sources` ([NAME=]PLACE), and those that could not be loaded, with the reason.

    Before a run that started from weights come these weights, unless they are there already.
    classifier: of the only source: a linear layer released with its weights, a fine-tuned run, or
    a fine-tuned model that others released.
    Raises UserError if no model can be loaded.
    """
    if classifier is not None and len(sources) != 1:
        raise UserError(
            f"--classifier {classifier} belongs to one model, not to {len(sources)}; name that one "
            "with --model."
        )
    models, broken = dict[str, LoadedModel](), list[LeftOut]()
    for source in sources:
        try:
            source = with_weights(source)
            label, place = named(source)
            model = load_backbone(place, label)
            model = _with_classifier(model, classifier) if classifier else model
            if (start := source_of_start(model)) is not None and not _has(models, start):
                models[start.card.source] = start
            models[source] = model
        except UserError as error:
            broken.append(
                LeftOut(f"every evaluation of {printable(source)}", sentence(error), True)
            )
    if not models and broken:
        raise UserError("; ".join(dict.fromkeys(one.why for one in broken)) + ".")
    return models, broken


def _with_classifier(model: LoadedModel, classifier: Path) -> LoadedModel:
    """`model` with the classifier in a file or a run; UserError where there is none."""
    model = replace(model, classifier_given=True)
    path = expanded(classifier)
    pickled = not (path.is_dir() or is_safetensors(path) or is_index(path))
    if pickled and (layer := read_classifier(path)) is not None:
        return replace(model, classifier=layer, classifier_name=RELEASED, reads="")
    place = str(path.absolute())
    same = f"{model.source}?".startswith(f"{place}?")  # with its options, e.g. ?key=
    other = model if same else load_backbone(path)
    if other.classifier is None:
        other = with_tuned_classifier(other)
    facts = {name: getattr(other, name) for name in ("classifier", "classifier_name", "reads")}
    if other.tuned is not None:
        facts |= {name: getattr(other, name) for name in EVALUATED}
    return replace(model, **facts)


def _has(models: Mapping[str, LoadedModel], model: LoadedModel) -> bool:
    """Whether the weights of `model` are among `models`."""
    return any(other.card.sha256 == model.card.sha256 for other in models.values())


def with_floors(models: Sequence[LoadedModel]) -> list[LoadedModel]:
    """The floors of `models`, then `models`: pixels, and random weights per architecture and seed.

    Both have the image size that the model is evaluated at, which may differ from that of its
    position table. Random weights are evaluated by every pooling of the models above them.
    """
    present = {m.card.source for m in models}
    floors: dict[str, LoadedModel] = {}
    for model in models:
        config = getattr(model.backbone, "config", None)
        if config is None:
            continue
        size = model.image_size
        pixels = f"{PIXELS}:{size - size % 8}"
        fresh = random_source(replace(config, image_size=size), model.card.seed or 0)
        for source in (s for s in (pixels, fresh) if s not in present):
            floors.setdefault(source, load_backbone(source))
        if fresh in floors:
            poolings = dict.fromkeys((*floors[fresh].poolings, *model.poolings))
            floors[fresh] = replace(floors[fresh], poolings=tuple(poolings))
    return [*floors.values(), *models]
