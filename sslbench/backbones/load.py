"""Finds out what a source of weights is and loads it; nothing is ever guessed silently.

DIR, DIR/weights.safetensors    a run of ours
random-init:ARCH                fresh weights, e.g. random-init:vit_small/16@224?seed=1
pixels:SIZE                     the pixels themselves
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslbench import plugins
from sslbench.backbones.base import Backbone
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.backbones.pixels import RawPixels
from sslbench.config import IMAGENET_MEAN, IMAGENET_STD, Recipe, recipe_from_dict
from sslbench.errors import UserError
from sslbench.method import Method
from sslbench.reporting.result import ModelCard, digest
from sslbench.training.checkpoint import WEIGHTS, read_weights, weights_sha256

RANDOM, PIXELS = "random-init", "pixels"
FLOORS = (PIXELS, RANDOM)


@dataclass(frozen=True)
class LoadedModel:
    """A backbone ready to be judged, and everything that must travel with its weights.

    source: what `load_backbone` was given, absolute where it is a path; it stays on this machine.
    """

    backbone: Backbone
    card: ModelCard
    poolings: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    head: nn.Module | None = None
    source: str = ""


def load_backbone(source: str | Path) -> LoadedModel:
    """The model behind `source`, in eval mode; UserError if it is not one."""
    text = str(source)
    if text.startswith(f"{RANDOM}:"):
        return replace(_random(text), source=text)
    if text.startswith(f"{PIXELS}:"):
        return replace(_pixels(text), source=text)
    return replace(_run(_weights_file(text)), source=str(Path(text).expanduser().absolute()))


def read_card(source: str | Path) -> dict[str, Any]:
    """What a run says of its weights: recipe, data, steps, epochs, sha256."""
    return read_weights(_weights_file(str(source)))[1]


def load_module(source: str | Path, group: str) -> nn.Module:
    """The frozen module that a run of a plugin of `group` exported, e.g. a tokenizer for BEiT."""
    recipe, _, tensors = _read(_weights_file(str(source)), group)
    method = _rebuild(recipe, group)
    _load_exactly(method.backbone(), _part(tensors, "backbone."), str(source))
    return method.backbone().eval()


def random_source(config: BackboneConfig, seed: int) -> str:
    """The source string of a random-init floor for an architecture."""
    return f"{RANDOM}:{config.name}/{config.patch_size}@{config.image_size}?seed={seed}"


def _weights_file(text: str) -> Path:
    path = Path(text).expanduser()
    if path.is_dir():
        if not (path / WEIGHTS).exists():
            raise UserError(
                f"{path} holds no {WEIGHTS}: the run has not ended; go on with `pretrain --resume`."
            )
        path = path / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"model source {text!r} does not exist; give a run directory, a {WEIGHTS} file, "
            f"{RANDOM}:ARCH/PATCH@SIZE or {PIXELS}:SIZE."
        )
    if path.suffix != ".safetensors":
        raise UserError(f"{path} is not a .safetensors file; give a run directory of sslbench.")
    return path


def _read(path: Path, group: str) -> tuple[Recipe, dict[str, Any], dict[str, Tensor]]:
    tensors, card = read_weights(path)
    if "recipe" not in card:
        raise UserError(f"{path} does not say how it was trained; give a run of sslbench.")
    return recipe_from_dict(card["recipe"], group), card, tensors


def _run(path: Path) -> LoadedModel:
    recipe, card, tensors = _read(path, plugins.METHODS)
    method_class: type[Method] = plugins.load(plugins.METHODS, recipe.method_name)
    backbone = build_backbone(recipe.backbone, "backbone.mask_token" in tensors, drop_path=0.0)
    _load_exactly(backbone, _part(tensors, "backbone."), str(path))
    head = None
    if head_tensors := _part(tensors, "head."):
        head = _rebuild(recipe, plugins.METHODS).head()
        assert head is not None, "a run that exported a head rebuilds one"
        _load_exactly(head, head_tensors, str(path))
        head.eval()
    model = ModelCard(
        sha256=card["sha256"],
        method=recipe.method_name,
        arch=recipe.backbone.arch,
        recipe=recipe.name,
        pretrain_data=card["data"],
        epochs=round(card["epochs"], 2),
        effective_epochs=round(card["effective_epochs"], 2),
        steps=card["steps"],
        seed=recipe.train.seed,
        source=path.absolute().parent.name,
    )
    size = recipe.backbone.image_size
    return LoadedModel(
        backbone.eval(),
        model,
        method_class.poolings,
        size,
        recipe.data.mean,
        recipe.data.std,
        head,
    )


def _rebuild(recipe: Recipe, group: str) -> Method:
    method_class: type[Method] = plugins.load(group, recipe.method_name)
    needs = {
        name: load_module(source, plugins.group_of(name)) for name, source in recipe.needs.items()
    }
    return method_class(recipe.method, partial(build_backbone, recipe.backbone), **needs)


def _random(text: str) -> LoadedModel:
    match = re.fullmatch(rf"{RANDOM}:(\w+)/(\d+)@(\d+)(?:\?seed=(\d+))?", text)
    if not match:
        raise UserError(f"{text!r} is not of the form {RANDOM}:vit_small/16@224?seed=0.")
    name, patch, size, seed = match.group(1), *map(int, match.groups(default="0")[1:])
    config = BackboneConfig(name, patch, size, drop_path=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(config).eval()
    sha = weights_sha256(backbone.state_dict())
    card = ModelCard(sha, RANDOM, config.arch, seed=seed, source=text)
    return LoadedModel(backbone, card, ("cls", "mean"), size)


def _pixels(text: str) -> LoadedModel:
    size = text.partition(":")[2]
    if not size.isdecimal() or int(size) < 8 or int(size) % 8:
        raise UserError(f"{text!r} is not of the form {PIXELS}:64, a multiple of 8.")
    card = ModelCard(digest(text), PIXELS, "none", source=text)
    return LoadedModel(RawPixels(int(size)), card, ("cls",), int(size))


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


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
