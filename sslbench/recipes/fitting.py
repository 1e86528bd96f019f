"""Turns a recipe's budget into plain settings that fit its data and this machine.

What is trained depends on the number of images and on whether there is a GPU, never on a clock, so
that one command trains the same on every machine of a kind.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from sslbench.recipes.recipe import Budget, Recipe


def fitted_settings(recipe: Recipe, images: int, given: Collection[str]) -> list[str]:
    """Changes as of --set that fit `recipe` to `images` images; none without a budget.

    given: names of the settings, or of sections, that the user has set; they stay, and the others
    follow them.
    """
    budget = recipe.budget
    if not budget.images:
        return []
    chosen = is_given("train.epochs", given)
    epochs = recipe.train.epochs if chosen else fitting_epochs(budget, images)
    settings: dict[str, Any] = {
        "train.batch_size": fitting_batch(recipe.train.batch_size, images, budget.batches),
        "train.epochs": epochs,
        **{name: _rounded(share * epochs) for name, share in budget.shares},
        **{name: float(math.floor(share * epochs)) for name, share in budget.starts},
    }
    return [f"{name}={value!r}" for name, value in settings.items() if not is_given(name, given)]


def gpu_settings(recipe: Recipe, given: Collection[str]) -> list[str]:
    """Changes as of --set that `recipe` makes where there is a GPU, but for the user's `given`."""
    changes = recipe.budget.gpu
    return [change for change in changes if not is_given(change.partition("=")[0], given)]


def is_given(name: str, given: Collection[str]) -> bool:
    """Return whether the setting `name`, or a section that holds it, is in `given`."""
    return any(name == key or name.startswith(f"{key}.") for key in given)


def fitting_batch(largest: int, images: int, batches: int) -> int:
    """The largest power of two up to `largest` that leaves `batches` batches; at least 2."""
    most = max(2, images // batches)
    return min(largest, 1 << (most.bit_length() - 1))


def fitting_epochs(budget: Budget, images: int) -> float:
    """Epochs in which `budget.images` images are seen, at most `budget.epochs`."""
    return _rounded(min(budget.epochs, budget.images / max(1, images)))


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")
