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

    given: names of the settings that the user has set; they stay, and the others follow them.
    """
    budget = recipe.budget
    if not budget.images:
        return []
    epochs = recipe.train.epochs if "train.epochs" in given else fitting_epochs(budget, images)
    settings: dict[str, Any] = {
        "train.batch_size": fitting_batch(recipe.train.batch_size, images, budget.batches),
        "train.epochs": epochs,
        **{name: _rounded(share * epochs) for name, share in budget.shares},
        **{name: float(math.floor(share * epochs)) for name, share in budget.starts},
    }
    return [f"{name}={value!r}" for name, value in settings.items() if name not in given]


def fitting_batch(largest: int, images: int, batches: int) -> int:
    """The largest power of two up to `largest` that leaves `batches` batches; at least 2."""
    most = max(2, images // batches)
    return min(largest, 1 << (most.bit_length() - 1))


def fitting_epochs(budget: Budget, images: int) -> float:
    """Epochs in which `budget.images` images are seen, at most `budget.epochs`."""
    return _rounded(min(budget.epochs, budget.images / max(1, images)))


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")
