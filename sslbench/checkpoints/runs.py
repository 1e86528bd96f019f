"""Runs of ours: where a run's weights lie, what its card says, and modules built from them."""

from __future__ import annotations

import difflib
import shlex
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslbench.checkpoints.download import releases
from sslbench.checkpoints.families.timm import HUB
from sslbench.checkpoints.files import MAIN, is_index, is_safetensors, main_file, not_weights
from sslbench.checkpoints.floors import PIXELS, RANDOM
from sslbench.checkpoints.ours import read_checked
from sslbench.errors import UserError
from sslbench.recipes.load import recipe_from_dict
from sslbench.recipes.recipe import Recipe
from sslbench.storage.home import expanded
from sslbench.storage.layout import WEIGHTS, has_state
from sslbench.storage.weights import read_metadata


def weights_file(text: str) -> Path:
    """The file of weights that `text`, a file or a folder, names; UserError if there is none."""
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


def read_card(source: str | Path) -> dict[str, Any]:
    """What a run says of its weights (recipe, data, steps, epochs, sha256); {} if it is no run."""
    path = weights_file(str(source))
    return read_metadata(path) if is_safetensors(path) else {}


def is_run(path: Path) -> bool:
    """Whether a file of weights is of a run, or converted as if it were."""
    return is_safetensors(path) and "recipe" in read_metadata(path)


def read_run(path: Path, group: str) -> tuple[Recipe, dict[str, Any], dict[str, Tensor]]:
    """Recipe, card and tensors in a run's file of weights; UserError if it is of no run.

    group: the entry-point group of the recipe's method, e.g. `plugins.METHODS`.
    """
    tensors, card = read_checked(path) if is_safetensors(path) else ({}, {})
    if not isinstance(card.get("recipe"), Mapping):
        raise UserError(f"{path} does not say how it was trained; give a run of sslbench.")
    return recipe_from_dict(card["recipe"], group, stored=True), card, tensors


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, named without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def fitted(make: Callable[[], Any], tensors: Mapping[str, Tensor], source: str) -> Any:
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
