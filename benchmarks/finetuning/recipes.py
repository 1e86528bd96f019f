"""The recipe of one fine-tuning: a config of `configs/finetune`, a model and labelled images.

The config says what the paper says. What depends on the model (its architecture, weights, mean and
std) or on the data (where it is, its classes, a budget's epochs) is filled in here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sslbench import plugins
from sslbench.backbones.config import BackboneConfig
from sslbench.benchmark import Splits
from sslbench.benchmarks.finetuning.checks import check_free
from sslbench.checkpoints.load import LoadedModel
from sslbench.errors import UserError, nearest
from sslbench.recipes.discovery import check_unclaimed
from sslbench.recipes.fitting import fitted_settings, gpu_settings
from sslbench.recipes.load import benchmark_configs, read_config, recipe_from_dict
from sslbench.recipes.origins import set_by_user
from sslbench.recipes.recipe import Recipe
from sslbench.result import digest

BENCHMARK = "finetune"
# what a config may say beside a recipe's sections: learning rates to try instead of `optim.lr`, and
# epochs from one evaluation to the next
RATES, EVERY = "rates", "evaluate_every"
GIVEN = "given"  # beside them, as `read` finds it: what the user's file sets, whatever the budget
UNHASHED = ("name", "about", "run", "budget", GIVEN)


def read(name: str) -> dict[str, Any]:
    """The values of a config by name, or of a .py file of the user's."""
    check_unclaimed(f"{BENCHMARK}/{name}")
    known = benchmark_configs(BENCHMARK)
    if name.endswith(".py"):
        values, given = read_config(name), sorted(set_by_user(name))
        return {**values, GIVEN: given} if given else values
    if name not in known:
        raise UserError(f"unknown {BENCHMARK} config {name!r}: {nearest(name, known)}.")
    return {**read_config(str(known[name])), "name": f"{BENCHMARK}/{name}"}


def rates_of(values: Mapping[str, Any]) -> tuple[float, ...]:
    """The learning rates that a config tries; () where it has one alone."""
    rates = values.get(RATES, ())
    listed = isinstance(rates, list | tuple) and all(map(_is_rate, rates))
    if not listed or len(set(rates)) < len(rates):
        raise UserError(
            f"{RATES}={rates!r} is no list of different learning rates above 0; write e.g. "
            f"{RATES} = (1e-3, 3e-3), or leave it out for optim.lr alone"
        )
    return tuple(map(float, rates))


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and value is not True and 0 < value < math.inf


def config_hash(values: Mapping[str, Any], recipe: Recipe) -> str:
    """Hash of every value of a config that can move a number.

    recipe: made of it, which says what a budget came to with these data on this machine.
    """
    decide = {k: v for k, v in values.items() if k not in UNHASHED}
    return digest([decide, asdict(replace(recipe.train, seed=0)), asdict(recipe.optim)])


def every(values: Mapping[str, Any]) -> int:
    """Epochs from one evaluation to the next."""
    epochs = values.get(EVERY, 1)
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise UserError(
            f"{EVERY}={epochs!r} is no number of epochs; write a whole number from 1 on"
        )
    return epochs


def first_layer(model: LoadedModel) -> int | None:
    """Width of the first layer of the model's projection head; None where it has none."""
    layers = getattr(model.head, "layers", None)
    return None if layers is None else layers[0].out_features


def recipe_for(
    values: Mapping[str, Any],
    model: LoadedModel,
    data: Splits,
    seed: int,
    rate: float | None = None,
    share: float = 1.0,
    held_out: float = 0.0,
) -> Recipe:
    """The complete recipe; UserError where config, model and data do not go together.

    rate: instead of the config's `optim.lr`; share: of the labels of every class; held_out: share
    of these that is not trained on.
    """
    config = getattr(model.backbone, "config", None)
    if not isinstance(config, BackboneConfig):
        raise UserError("it has no weights to train")
    given = values.get(GIVEN, ())
    values = deepcopy({k: v for k, v in values.items() if k not in (RATES, EVERY, GIVEN)})
    backbone = {**asdict(config), **values.get("backbone", {})}
    check_free(values)
    method = dict(values.get("method", {}))
    if method.get("projection"):
        if (width := first_layer(model)) is None:
            raise UserError(
                "it has no projection head, from whose first layer this config starts; give the "
                "full checkpoint, or a config with method.projection=None"
            )
        method["projection"] = width
    views = {"size": backbone["image_size"], "fill": _fill(model.mean), **method.get("views", {})}
    backbone["image_size"] = views["size"]
    values |= {
        "backbone": backbone,
        "method": {**method, "classes": len(data.classes), "views": views},
        "data": {
            **values.get("data", {}),
            "source": data.source,
            "mean": model.mean,
            "std": model.std,
            "share": share,
            "held_out": held_out,
        },
        "train": {**values.get("train", {}), "seed": seed},
        "init": {"source": model.source},
    }
    if rate is not None:
        values["optim"] = {**values.get("optim", {}), "lr": rate}
    recipe = recipe_from_dict(values, plugins.CLASSIFIERS)
    if not recipe.budget.images:
        return recipe
    gpu = gpu_settings(recipe, given) if torch.cuda.is_available() else []
    recipe = recipe_from_dict(values, plugins.CLASSIFIERS, gpu)
    changes = fitted_settings(recipe, round(len(data.train) * share), given)
    return recipe_from_dict(values, plugins.CLASSIFIERS, [*gpu, *changes])


def is_config(name: str) -> bool:
    """Whether a config's name, or a .py file in a folder called like the benchmark, is for it."""
    if name.endswith(".py"):
        return Path(name).resolve().parent.name == BENCHMARK
    return name in benchmark_configs(BENCHMARK)


def _fill(mean: tuple[float, ...]) -> tuple[int, ...]:
    """As timm's `create_transform` makes it of the mean."""
    return tuple(min(255, round(255 * x)) for x in mean)
