"""The frozen modules that a method is given (e.g. a tokenizer): loaded, identified, converted.

A source is a run, a file that others published or its known name (see `list`), or random-init:NAME
for fresh weights of the plugin NAME.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sslbench import plugins
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints import download
from sslbench.checkpoints.files import is_safetensors
from sslbench.checkpoints.floors import RANDOM
from sslbench.checkpoints.ours import read_checked
from sslbench.checkpoints.runs import fitted, part, read_card, read_run, weights_file
from sslbench.data.contents import content_hashes
from sslbench.errors import UserError
from sslbench.method import Method
from sslbench.recipes.identity import START, RecipeIdentity, identify
from sslbench.recipes.load import recipe_from_dict
from sslbench.recipes.recipe import DataConfig, Recipe
from sslbench.storage.home import expanded
from sslbench.storage.layout import WEIGHTS
from sslbench.storage.weights import save_weights, weights_sha256
from sslbench.tokenizer import Tokenizer


def load_module(source: str | Path, group: str) -> nn.Module:
    """The frozen module behind a source, in eval mode; UserError if it is not one.

    group: the entry-point group of its kind, e.g. `plugins.TOKENIZERS`.
    """
    text = str(source)
    if text.startswith(f"{RANDOM}:"):
        return _random_module(text.partition(":")[2], group)
    path = _published_file(text)
    if path is not None and not is_safetensors(path):
        return read_published([path], group)[2].eval()
    recipe, _, tensors = read_run(weights_file(text), group)
    plugin = plugins.load(group, recipe.method_name)
    make = partial(_build, plugin, recipe.method, recipe.backbone, needed_modules(recipe))
    return fitted(make, part(tensors, "backbone."), text)


def needed_modules(recipe: Recipe) -> dict[str, nn.Module]:
    """The frozen modules that a recipe's method is given, by name."""
    return {
        name: load_module(source, plugins.group_of(name)) for name, source in recipe.needs.items()
    }


def needed_identity(source: str | Path, group: str) -> str:
    """What the module behind a source of `load_module` is.

    The digest of the recipe that trained it, so that runs with tokenizers of several seeds are
    repetitions; of weights that others made, their hash; "" where it is no longer there.
    """
    text = str(source)
    if text.startswith(f"{RANDOM}:"):
        return text
    path = _published_file(text)
    if path is not None and not is_safetensors(path):
        return content_hashes(path.parent, [path.name])[0]
    if path is None and not (expanded(text) / WEIGHTS).is_file():
        return ""
    card = read_card(text)
    if not card.get("steps"):  # converted
        return weights_sha256(read_checked(weights_file(text))[0])
    recipe = recipe_from_dict(card["recipe"], group, stored=True)
    return run_identity(recipe, card, group).digest


def run_identity(recipe: Recipe, card: Mapping[str, Any], group: str) -> RecipeIdentity:
    """The identity of a run by its card; an older version's names neither its data nor needs."""
    needs = card.get("needs") or {
        name: needed_identity(path, plugins.group_of(name)) for name, path in recipe.needs.items()
    }
    if start := card.get("started_from"):
        needs = {**needs, START: start_identity(start)}
    return identify(recipe, card.get("data_fingerprint", ""), needs, group)


def start_identity(started_from: Mapping[str, Any]) -> str:
    """What the weights that a run started from are: digest and steps of a run, else their hash.

    So runs that started from runs of several seeds are repetitions.
    """
    recipe_digest = started_from.get("recipe_digest")
    if recipe_digest:
        return f"{recipe_digest} at {started_from.get('steps')}"
    return str(started_from.get("sha256"))


def read_published(files: Sequence[Path], group: str) -> tuple[str, Any, nn.Module]:
    """Name and config of the plugin of `group` that reads published files, and its module.

    Raises UserError where no plugin reads them or the weights do not fit.
    """
    names = " with ".join(map(str, files))
    for name in plugins.available(group):
        plugin = plugins.load(group, name)
        contents = plugin.read(*files) if issubclass(plugin, Tokenizer) else None
        if contents is not None:
            config, tensors = contents
            module = _build(plugin, config)
            try:
                module.load_state_dict(tensors)
            except RuntimeError as error:
                raise UserError(f"{names} does not fit {name}: {error}.") from error
            return name, config, module
    raise UserError(f"nothing of the group {group!r} reads {names}; give a run of sslbench.")


def convert_module(sources: Sequence[str], group: str, out: Path) -> str:
    """Writes published files as if a run had exported them; returns the weights' sha256.

    sources: paths or known names. Raises UserError for what does not exist or cannot be read.
    """
    files = [_existing(source) for source in sources]
    name, config, module = read_published(files, group)
    data = DataConfig(source="unknown")
    recipe = Recipe(name=files[0].name, method_name=name, method=config, data=data)
    tensors = {f"backbone.{k}": v for k, v in module.state_dict().items()}
    card = {"recipe": recipe.to_dict(), "data": "unknown", "steps": 0}
    card |= {"epochs": 0.0, "effective_epochs": 0.0}
    return save_weights(out / WEIGHTS, tensors, card)


def _build(
    plugin: type[Any],
    config: Any,
    backbone: BackboneConfig | None = None,
    needs: Mapping[str, nn.Module] | None = None,
) -> nn.Module:
    """The module of a plugin: what a method exports, or the plugin itself."""
    if not issubclass(plugin, Method):
        return plugin(config)
    make_backbone = partial(build_backbone, backbone or BackboneConfig())
    return plugin(config, make_backbone, **(needs or {})).backbone()


def _random_module(name: str, group: str) -> nn.Module:
    """The module of a plugin's default settings with fresh weights, always the same ones."""
    plugin = plugins.load(group, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _build(plugin, plugin.Config()).eval()


def _published_file(text: str) -> Path | None:
    """The file that `text` is the path or the known name of; None if it is neither."""
    path = expanded(text)
    if not path.exists() and text in download.releases():
        return download.find(text)
    return path if path.is_file() else None


def _existing(source: str) -> Path:
    if (path := _published_file(source)) is None:
        raise UserError(f"{source} does not exist; give a published file or a name of `list`.")
    return path
