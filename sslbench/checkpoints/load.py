"""Finds out what kind of source of weights a text names, and loads the model behind it.

DIR, DIR/weights.safetensors    a run of ours
FILE[?key=student&arch=ViT-S/16]    a checkpoint of others: which network of it, what it must be;
    further options say what a file does not: see `sources`
NAME                            released weights by name, e.g. ibot_vits16 (see `list`)
timm:NAME                       pretrained weights of timm
random-init:ARCH                fresh weights, e.g. random-init:vit_small/16@224?seed=1
pixels:SIZE                     the pixels themselves
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from torch import Tensor

from sslbench import plugins
from sslbench.backbones.build import build_backbone
from sslbench.checkpoints.classifier import OF_RUN
from sslbench.checkpoints.download import find, releases
from sslbench.checkpoints.families.timm import HUB
from sslbench.checkpoints.files import is_index
from sslbench.checkpoints.floors import PIXELS, RANDOM, pixels_model, random_model, random_source
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.checkpoints.modules import needed_modules, run_identity
from sslbench.checkpoints.others import check_arch, read_others, read_timm
from sslbench.checkpoints.pickles import number
from sslbench.checkpoints.runs import fitted, is_run, part, read_card, read_run, weights_file
from sslbench.checkpoints.sources import split
from sslbench.data.contents import file_sha256
from sslbench.errors import UserError
from sslbench.method import Method
from sslbench.recipes.recipe import Recipe
from sslbench.result import ModelCard
from sslbench.storage.home import expanded

__all__ = ["LoadedModel", "load_backbone", "random_source", "read_card"]


def load_backbone(source: str | Path, label: str = "") -> LoadedModel:
    """The model behind `source`, in eval mode; UserError if it is not one.

    label: the user's name for it, see `sources.named`.
    """
    text = str(source)
    model = _without_file(text) or _from_file(text)
    return replace(model, card=replace(model.card, source=text, label=label))


def _without_file(text: str) -> LoadedModel | None:
    """The model behind a source that names no file of the user; None for one that does."""
    for prefix, read in ((RANDOM, random_model), (PIXELS, pixels_model), (HUB, read_timm)):
        if text.startswith(f"{prefix}:"):
            return replace(read(text), source=text)
    return None


def _from_file(text: str) -> LoadedModel:
    """The model in a run's directory or a file."""
    place, options = split(text)
    if not expanded(place).exists() and place in releases():
        place = str(find(place))
    path = weights_file(place)
    model = _run(path, options) if is_run(path) else read_others(path, options)
    # an index holds no weights, and its shards are several files
    card = replace(model.card, file_sha256="" if is_index(path) else file_sha256(path))
    absolute = str(expanded(place).absolute()) + (f"?{urlencode(options)}" if options else "")
    return replace(model, card=card, source=absolute)


def _run(path: Path, options: Mapping[str, str]) -> LoadedModel:
    if key := options.get("key"):
        raise UserError(f"{path} is of a run, which exports one network; leave out ?key={key}.")
    if odd := [name for name in options if name != "arch"]:
        raise UserError(
            f"{path} is of a run, which says itself what it is and how its inputs are normalised; "
            f"leave out ?{odd[0]}={options[odd[0]]}."
        )
    group = _group(path)
    recipe, card, tensors = read_run(path, group)
    check_arch(recipe.backbone.arch, options.get("arch"), path, "was asked for")
    model_card = _card(recipe, card, path, group)
    method_class: type[Method] = plugins.load(group, recipe.method_name)
    masked = "backbone.mask_token" in tensors
    make = partial(build_backbone, recipe.backbone, masked, drop_path=0.0)
    backbone, head = fitted(make, part(tensors, "backbone."), str(path)), None
    if head_tensors := part(tensors, "head."):
        make_backbone, needs = partial(build_backbone, recipe.backbone), needed_modules(recipe)
        rebuild = partial(method_class, recipe.method, make_backbone, **needs)
        head = fitted(lambda: rebuild().head(), head_tensors, str(path))
    size = recipe.backbone.image_size
    model = LoadedModel(
        backbone,
        model_card,
        method_class.poolings,
        size,
        recipe.data.mean,
        recipe.data.std,
        head,
    )
    if classifier := part(tensors, "classifier."):
        return _with_classifier(model, recipe, method_class, classifier, str(path))
    return model


def _group(path: Path) -> str:
    """The plugin group of a run's method, classifiers or methods."""
    recipe = read_card(path).get("recipe")
    method = recipe.get("method") if isinstance(recipe, Mapping) else None
    name = method.get("name") if isinstance(method, Mapping) else None
    known = isinstance(name, str) and name in plugins.available(plugins.CLASSIFIERS)
    return plugins.CLASSIFIERS if known else plugins.METHODS


def _with_classifier(
    model: LoadedModel,
    recipe: Recipe,
    method_class: type[Method],
    tensors: Mapping[str, Tensor],
    source: str,
) -> LoadedModel:
    """`model` with the classifier that was trained with it, and its images as it was evaluated."""
    make_backbone = partial(build_backbone, recipe.backbone)

    def rebuild() -> Method:
        return method_class(recipe.method, make_backbone)

    views = getattr(recipe.method, "views", None)
    return replace(
        model,
        classifier=fitted(lambda: rebuild().trained_classifier(), tensors, source),
        reads=method_class.reads(recipe.method),
        classifier_name=OF_RUN,
        interpolation=getattr(views, "test_interpolation", model.interpolation),
        crop_ratio=getattr(views, "test_crop_ratio", 0.0) or None,
    )


def _card(recipe: Recipe, card: Mapping[str, Any], path: Path, group: str) -> ModelCard:
    """The model card of a run; UserError where its own card lacks a value or has a wrong one.

    group: of plugins, that of its method.
    """
    numbers = ("epochs", "effective_epochs", "steps", "tokens")
    if missing := {"sha256", "data", *numbers[:3]} - card.keys():
        raise UserError(f"the card in {path} lacks {min(missing)!r}; export the run again.")
    counts = {name: number(card.get(name, 0.0)) for name in numbers}
    wrong = [name for name, value in counts.items() if value is None or value < 0]
    wrong += [name for name in ("sha256", "data") if not isinstance(card[name], str)]
    wrong += [
        name for name in ("needs", "started_from") if not isinstance(card.get(name, {}), Mapping)
    ]
    if wrong:
        raise UserError(
            f"the card in {path} says {wrong[0]}={card[wrong[0]]!r}, which no run has; export the "
            "run again."
        )
    identity = run_identity(recipe, card, group)
    return ModelCard(
        sha256=card["sha256"],
        method=recipe.method_name,
        arch=recipe.backbone.arch,
        recipe=recipe.name,
        pretrain_data=card["data"],
        epochs=round(float(card["epochs"]), 2),
        effective_epochs=round(float(card["effective_epochs"]), 2),
        tokens=float(f"{card.get('tokens', 0.0):.4g}"),
        steps=int(card["steps"]),
        seed=recipe.train.seed,
        recipe_digest=identity.digest,
        settings=identity.settings,
        data_fingerprint=card.get("data_fingerprint", ""),
        identified="run",
        started_from=dict(card.get("started_from", {})),
    )
