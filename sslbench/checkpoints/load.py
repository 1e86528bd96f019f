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

import difflib
import shlex
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import torch
from torch import Tensor, nn

from sslbench import plugins
from sslbench.backbones.build import build_backbone
from sslbench.checkpoints.download import find, releases
from sslbench.checkpoints.families.timm import HUB
from sslbench.checkpoints.files import MAIN, is_index, is_safetensors, main_file, not_weights
from sslbench.checkpoints.floors import PIXELS, RANDOM, pixels_model, random_model, random_source
from sslbench.checkpoints.foreign import published_file, random_module, read_module
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.checkpoints.others import check_arch, read_others, read_timm
from sslbench.checkpoints.ours import read_checked
from sslbench.checkpoints.pickles import number
from sslbench.checkpoints.sources import split
from sslbench.data.contents import content_hashes, file_sha256
from sslbench.errors import UserError
from sslbench.method import Method
from sslbench.recipes.identity import RecipeIdentity, identify
from sslbench.recipes.load import recipe_from_dict
from sslbench.recipes.recipe import Recipe
from sslbench.result import ModelCard
from sslbench.storage.home import expanded
from sslbench.storage.layout import WEIGHTS, has_state
from sslbench.storage.weights import read_metadata, weights_sha256

__all__ = [
    "LoadedModel", "load_backbone", "load_module", "needed_identity", "random_source", "read_card",
]  # fmt: skip


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
    path = _weights_file(place)
    model = _run(path, options) if _is_run(path) else read_others(path, options)
    # an index holds no weights, and its shards are several files
    card = replace(model.card, file_sha256="" if is_index(path) else file_sha256(path))
    absolute = str(expanded(place).absolute()) + (f"?{urlencode(options)}" if options else "")
    return replace(model, card=card, source=absolute)


def read_card(source: str | Path) -> dict[str, Any]:
    """What a run says of its weights (recipe, data, steps, epochs, sha256); {} if it is no run."""
    path = _weights_file(str(source))
    return read_metadata(path) if is_safetensors(path) else {}


def load_module(source: str | Path, group: str) -> nn.Module:
    """The frozen module of a plugin of `group`, e.g. a tokenizer for BEiT.

    source: a run, a published file that a plugin reads or its known name, or random-init:NAME for
    fresh weights.
    """
    if (foreign := _foreign_module(str(source), group)) is not None:
        return foreign
    recipe, _, tensors = _read(_weights_file(str(source)), group)
    make = partial(_rebuild, recipe, group, _needed(recipe))
    return _fitted(lambda: make().backbone(), _part(tensors, "backbone."), str(source))


def needed_identity(source: str | Path, group: str) -> str:
    """What the module behind a source of `load_module` is.

    The digest of the recipe that trained it, so that runs with tokenizers of several seeds are
    repetitions; of weights that others made, their hash; "" where it is no longer there.
    """
    text = str(source)
    if text.startswith(f"{RANDOM}:"):
        return text
    path = published_file(text)
    if path is not None and not is_safetensors(path):
        return content_hashes(path.parent, [path.name])[0]
    if path is None and not (expanded(text) / WEIGHTS).is_file():
        return ""
    card = read_card(text)
    if not card.get("steps"):  # converted
        return weights_sha256(read_checked(_weights_file(text))[0])
    return _identity(recipe_from_dict(card["recipe"], group, stored=True), card, group).digest


def _identity(recipe: Recipe, card: Mapping[str, Any], group: str) -> RecipeIdentity:
    """Of a run, by its card; one of an older version does not say what its data and needs are."""
    needs = card.get("needs") or {
        name: needed_identity(path, plugins.group_of(name)) for name, path in recipe.needs.items()
    }
    return identify(recipe, card.get("data_fingerprint", ""), needs, group)


def _foreign_module(text: str, group: str) -> nn.Module | None:
    """The module behind a source that is no run of ours; None if it may be one."""
    if text.startswith(f"{RANDOM}:"):
        return random_module(text.partition(":")[2], group)
    path = published_file(text)
    if path is not None and not is_safetensors(path):
        return read_module([path], group).backbone().eval()
    return None


def _weights_file(text: str) -> Path:
    path = expanded(text)
    if path.is_dir():
        path = _main_file(path)
    if not path.is_file():
        raise UserError(
            f"model source {text!r} does not exist{_similar(text)}; give a run directory, a file "
            f"of weights, released weights by name (see `sslbench list`), {HUB}:NAME, "
            f"{RANDOM}:ARCH/PATCH@SIZE or {PIXELS}:SIZE."
        )
    if not is_index(path) and (reason := not_weights(path)):
        raise UserError(f"{path} {reason}.")
    return path


def _main_file(folder: Path) -> Path:
    if (folder / WEIGHTS).exists():
        return folder / WEIGHTS
    if (main := main_file(folder)) is not None:
        return main
    if has_state(folder):
        raise UserError(
            f"{folder} holds no {WEIGHTS}: the run has not ended; resume it with "
            f"`pretrain --resume`, or take the weights of its newest checkpoint with "
            f"`sslbench export {shlex.quote(str(folder))}`."
        )
    raise UserError(
        f"{folder} holds no {WEIGHTS}, as a run does, and none of {', '.join(MAIN)}, as folders of "
        "others do; name the file of weights itself."
    )


def _similar(text: str) -> str:
    close = difflib.get_close_matches(text, releases(), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _is_run(path: Path) -> bool:
    return is_safetensors(path) and "recipe" in read_metadata(path)


def _read(path: Path, group: str) -> tuple[Recipe, dict[str, Any], dict[str, Tensor]]:
    tensors, card = read_checked(path) if is_safetensors(path) else ({}, {})
    if not isinstance(card.get("recipe"), Mapping):
        raise UserError(f"{path} does not say how it was trained; give a run of sslbench.")
    return recipe_from_dict(card["recipe"], group, stored=True), card, tensors


def _run(path: Path, options: Mapping[str, str]) -> LoadedModel:
    if key := options.get("key"):
        raise UserError(f"{path} is of a run, which exports one network; leave out ?key={key}.")
    if odd := [name for name in options if name != "arch"]:
        raise UserError(
            f"{path} is of a run, which says itself what it is and how its inputs are normalised; "
            f"leave out ?{odd[0]}={options[odd[0]]}."
        )
    recipe, card, tensors = _read(path, plugins.METHODS)
    check_arch(recipe.backbone.arch, options.get("arch"), path, "was asked for")
    model_card = _card(recipe, card, path)
    method_class: type[Method] = plugins.load(plugins.METHODS, recipe.method_name)
    masked = "backbone.mask_token" in tensors
    make = partial(build_backbone, recipe.backbone, masked, drop_path=0.0)
    backbone, head = _fitted(make, _part(tensors, "backbone."), str(path)), None
    if head_tensors := _part(tensors, "head."):
        rebuild = partial(_rebuild, recipe, plugins.METHODS, _needed(recipe))
        head = _fitted(lambda: rebuild().head(), head_tensors, str(path))
    size = recipe.backbone.image_size
    return LoadedModel(
        backbone,
        model_card,
        method_class.poolings,
        size,
        recipe.data.mean,
        recipe.data.std,
        head,
    )


def _card(recipe: Recipe, card: Mapping[str, Any], path: Path) -> ModelCard:
    """The model card of a run; UserError where its own card lacks a value or has a wrong one."""
    numbers = ("epochs", "effective_epochs", "steps", "tokens")
    if missing := {"sha256", "data", *numbers[:3]} - card.keys():
        raise UserError(f"the card in {path} lacks {min(missing)!r}; export the run again.")
    counts = {name: number(card.get(name, 0.0)) for name in numbers}
    wrong = [name for name, value in counts.items() if value is None or value < 0]
    wrong += [name for name in ("sha256", "data") if not isinstance(card[name], str)]
    wrong += [name for name in ("needs",) if not isinstance(card.get(name, {}), Mapping)]
    if wrong:
        raise UserError(
            f"the card in {path} says {wrong[0]}={card[wrong[0]]!r}, which no run has; export the "
            "run again."
        )
    identity = _identity(recipe, card, plugins.METHODS)
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
    )


def _needed(recipe: Recipe) -> dict[str, nn.Module]:
    return {
        name: load_module(source, plugins.group_of(name)) for name, source in recipe.needs.items()
    }


def _rebuild(recipe: Recipe, group: str, needs: Mapping[str, nn.Module]) -> Method:
    method_class: type[Method] = plugins.load(group, recipe.method_name)
    return method_class(recipe.method, partial(build_backbone, recipe.backbone), **needs)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _fitted(make: Callable[[], Any], tensors: Mapping[str, Tensor], source: str) -> Any:
    """The module that `make` builds, with `tensors`, in eval mode; UserError if they do not fit.

    It is built on the meta device first, because a card may give any size. A plugin's module that
    cannot be built there is built at once.
    """
    with warnings.catch_warnings(), suppress(RuntimeError, NotImplementedError):
        warnings.simplefilter("ignore")  # copies to meta tensors do nothing
        with torch.device("meta"):
            _load_exactly(make(), tensors, source)
    module = make()
    _load_exactly(module, tensors, source)
    return module.eval()


def _load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads with every key accounted for; UserError naming what is missing or unexpected."""
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise UserError(f"weights {source} do not fit the architecture: {error}.") from error
    if missing or unexpected:
        raise UserError(
            f"weights {source} do not fit: missing {missing or 'none'}, unexpected "
            f"{unexpected or 'none'}; was the file made by another version?"
        )
