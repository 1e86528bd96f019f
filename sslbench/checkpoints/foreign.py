"""Modules that a method is given (e.g. a tokenizer) and that no run of ours has made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from sslbench import plugins
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints import download
from sslbench.errors import UserError
from sslbench.method import Method
from sslbench.recipes.recipe import DataConfig, Recipe
from sslbench.storage.home import expanded
from sslbench.storage.layout import WEIGHTS
from sslbench.storage.weights import save_weights

MAKE_BACKBONE = partial(build_backbone, BackboneConfig())


def random_module(name: str, group: str) -> nn.Module:
    """The module of a plugin's default settings with fresh weights, always the same ones."""
    method_class: type[Method] = plugins.load(group, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return method_class(method_class.Config(), MAKE_BACKBONE).backbone().eval()


def published_file(text: str) -> Path | None:
    """The file that `text` is the path or the known name of; None if it is neither."""
    path = expanded(text)
    if not path.exists() and text in download.releases():
        return download.find(text)
    return path if path.is_file() else None


def read_module(files: Sequence[Path], group: str) -> Method:
    """The method of `group` that reads published files, with their weights; UserError if none."""
    for name in plugins.available(group):
        method_class: type[Method] = plugins.load(group, name)
        found = method_class.read(*files)
        if found is not None:
            config, tensors = found
            method = method_class(config, MAKE_BACKBONE)
            try:
                method.backbone().load_state_dict(tensors)
            except RuntimeError as error:
                raise UserError(f"{_names(files)} does not fit {name}: {error}.") from error
            return method
    raise UserError(
        f"nothing of the group {group!r} reads {_names(files)}; give a run of sslbench."
    )


def convert_module(sources: Sequence[str], group: str, out: Path) -> str:
    """Writes published files as if a run had exported them; returns the weights' sha256.

    sources: paths or known names. Raises UserError for what does not exist or cannot be read.
    """
    files = [_existing(source) for source in sources]
    method = read_module(files, group)
    recipe = Recipe(
        name=files[0].name,
        method_name=method.name,
        method=method.config,
        data=DataConfig(source="unknown"),
    )
    tensors = {f"backbone.{k}": v for k, v in method.backbone().state_dict().items()}
    card = {"recipe": recipe.to_dict(), "data": "unknown", "steps": 0}
    card |= {"epochs": 0.0, "effective_epochs": 0.0}
    return save_weights(out / WEIGHTS, tensors, card)


def _existing(source: str) -> Path:
    if (path := published_file(source)) is None:
        raise UserError(f"{source} does not exist; give a published file or a name of `list`.")
    return path


def _names(files: Sequence[Path]) -> str:
    return " with ".join(map(str, files))
