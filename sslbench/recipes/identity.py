"""What makes two trainings the same training: a digest, and the settings that differ.

A number belongs to weights (SHA-256 computed over the tensors), a recipe (here), a protocol
(`Result.protocol`), data (`data.contents`: what the files hold), a seed and a code version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sslbench.errors import UserError
from sslbench.recipes.load import config_files, load_recipe
from sslbench.recipes.recipe import Recipe
from sslbench.result import digest

# Sections and settings that must not change the weights, or that are identified otherwise: data by
# its content, needed modules and the weights to start from by what they are (see `identify`), a
# budget by the settings made of it.
INDIFFERENT = (
    "about",
    "budget",
    "run",
    "name",
    "needs",
    "data.source",
    "train.seed",
    "init.source",
)
# What may change between a run's first step and its last: intervals, where things are, and what has
# become of plain settings.
MOVABLE = ("run", "needs", "data.source", "budget", "init.source")
START = "init"  # among the needs of `identify`: the weights that a run started from
# Settings added since the first published digests -> the value that means "as before". A digest
# leaves them out there, so that recipes of before keep theirs.
ADDED = {
    "optim.layer_decay": 1.0,
    "optim.warmup_lr": 0.0,
    "optim.schedule": "step",
    "train.repeats": 1,
    "train.low_precision_needs": False,
    "train.compile": False,
    "data.share": 1.0,
    "data.held_out": 0.0,
    "init.heads": "keep",
}


@dataclass(frozen=True)
class RecipeIdentity:
    """digest: of all that can change the weights but the seed; settings: `changed_settings`."""

    digest: str
    settings: dict[str, Any]


def identify(
    recipe: Recipe, data_fingerprint: str, needs: Mapping[str, str], group: str
) -> RecipeIdentity:
    """The identity of a training.

    data_fingerprint: content of its data; needs: name of each module it was given -> the digest of
    that module's recipe, or the hash of its weights. Either is "" if unknown; then the source
    written in the recipe counts instead, so that two unknown things are not taken to be equal.
    Among them, under `START`, are the weights that the run started from, if there are any.
    group: of plugins.
    """
    parts = {
        "settings": _alike(_without_added(_deciding(recipe))),
        "data": data_fingerprint or ["unknown", recipe.data.source],
        "needs": {
            name: what or ["unknown", recipe.needs.get(name)] for name, what in needs.items()
        },
    }
    return RecipeIdentity(digest(parts), changed_settings(recipe, group))


def kept_settings(recipe: Recipe) -> dict[str, Any]:
    """Flat settings that cannot change between the first step of a run and its last."""
    return _settings_but(MOVABLE, recipe)


def changed_settings(recipe: Recipe, group: str) -> dict[str, Any]:
    """Flat settings ("optim.lr" -> 0.1) that differ from the installed config of the recipe's name.

    If no such config is installed (a user's own file), those that differ from the defaults.
    """
    settings = _deciding(recipe)
    return {name: settings.get(name) for name in differing(recipe, _usual(recipe, group))}


def differing(first: Recipe, second: Recipe) -> list[str]:
    """Names of the settings in which two trainings differ, ignoring their seeds."""
    a, b = _deciding(first), _deciding(second)
    return sorted(n for n in a.keys() | b.keys() if a.get(n) != b.get(n))


def _usual(recipe: Recipe, group: str) -> Recipe:
    """The installed recipe of the same name; if there is none, the method's defaults."""
    if recipe.name in config_files():
        try:
            return load_recipe(recipe.name, recipe.method_name, group=group)
        except UserError:  # a config of that name is now of another method
            return _defaults(recipe)
    return _defaults(recipe)


def _defaults(recipe: Recipe) -> Recipe:
    return Recipe(recipe.name, recipe.method_name, type(recipe.method)())


def _deciding(recipe: Recipe) -> dict[str, Any]:
    """Every setting that can change the weights, flat, as JSON returns it."""
    return _settings_but(INDIFFERENT, recipe)


def _settings_but(left_out: Sequence[str], recipe: Recipe) -> dict[str, Any]:
    """Flat settings as JSON returns them, without some names and sections."""
    flat = _flat(json.loads(json.dumps(replace(recipe, needs={}).to_dict())))
    sections = tuple(f"{name}." for name in left_out)
    if not recipe.init.source:  # says nothing, and older versions did not know it
        flat = {name: value for name, value in flat.items() if not name.startswith("init.")}
    return {n: v for n, v in flat.items() if n not in left_out and not n.startswith(sections)}


def _without_added(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` without those of `ADDED` that have the value which means "as before"."""
    return {n: v for n, v in settings.items() if n not in ADDED or v != ADDED[n]}


def _alike(value: Any) -> Any:
    """`value` with whole numbers as floats, so that a default of 0 equals a config's 0.0."""
    if isinstance(value, dict):
        return {name: _alike(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_alike(child) for child in value]
    exact = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return float(value) if exact else value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
