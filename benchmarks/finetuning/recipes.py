"""The recipe of one fine-tuning: a config of `configs/finetune`, a model and labelled images.

The config says what the paper says. What depends on the model (its architecture, weights, mean and
std) or on the data (where it is, its classes, a budget's epochs) is filled in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sslbench import plugins
from sslbench.backbones.config import BackboneConfig
from sslbench.benchmark import Splits
from sslbench.checkpoints.load import LoadedModel
from sslbench.errors import UserError, nearest
from sslbench.recipes.discovery import check_unclaimed
from sslbench.recipes.fitting import fitted_settings
from sslbench.recipes.load import benchmark_configs, read_config, recipe_from_dict
from sslbench.recipes.recipe import Recipe
from sslbench.result import digest

BENCHMARK = "finetune"
# What a config may say beside a recipe's sections: learning rates to try instead of `optim.lr`;
# whether the first layer of the model's projection head is kept; epochs between two evaluations.
RATES, FROM_HEAD, EVERY = "rates", "from_head", "evaluate_every"


def read(name: str) -> dict[str, Any]:
    """The values of a config by name, or of a .py file of the user's."""
    check_unclaimed(f"{BENCHMARK}/{name}")
    known = benchmark_configs(BENCHMARK)
    if name.endswith(".py"):
        return read_config(name)
    if name not in known:
        raise UserError(f"unknown {BENCHMARK} config {name!r}: {nearest(name, known)}.")
    return {**read_config(str(known[name])), "name": f"{BENCHMARK}/{name}"}


def rates_of(values: Mapping[str, Any]) -> tuple[float, ...]:
    """The learning rates that a config tries; () where it has one alone."""
    return tuple(map(float, values.get(RATES, ())))


def config_hash(values: Mapping[str, Any]) -> str:
    """Hash of every value of a config that can move a number."""
    return digest({k: v for k, v in values.items() if k not in ("name", "about", "run")})


def every(values: Mapping[str, Any]) -> int:
    """Epochs from one evaluation to the next."""
    return int(values.get(EVERY, 1))


def projection_of(values: Mapping[str, Any], model: LoadedModel) -> int | None:
    """Width of the projection head's first layer, if the config keeps it and the model has one."""
    layers = getattr(model.head, "layers", None)
    return layers[0].out_features if values.get(FROM_HEAD) and layers is not None else None


def recipe_for(
    values: Mapping[str, Any],
    model: LoadedModel,
    data: Splits,
    seed: int,
    rate: float | None = None,
    share: float = 1.0,
) -> Recipe:
    """The complete recipe; UserError where config, model and data do not go together.

    rate: instead of the config's `optim.lr`; share: of the labels of every class.
    """
    config = getattr(model.backbone, "config", None)
    if not isinstance(config, BackboneConfig):
        raise UserError("it has no weights to train")
    projection = projection_of(values, model)
    values = deepcopy({k: v for k, v in values.items() if k not in (RATES, FROM_HEAD, EVERY)})
    backbone = {**asdict(config), **values.get("backbone", {})}
    method = dict(values.get("method", {}))
    views = {"size": backbone["image_size"], "fill": _fill(model.mean), **method.get("views", {})}
    backbone["image_size"] = views["size"]
    values |= {
        "backbone": backbone,
        "method": {
            **method,
            "classes": len(data.classes),
            "projection": projection,
            "views": views,
        },
        "data": {
            **values.get("data", {}),
            "source": data.source,
            "mean": model.mean,
            "std": model.std,
            "share": share,
        },
        "train": {**values.get("train", {}), "seed": seed},
        "init": {"source": model.source},
    }
    if rate is not None:
        values["optim"] = {**values.get("optim", {}), "lr": rate}
    recipe = recipe_from_dict(values, plugins.CLASSIFIERS)
    changes = fitted_settings(recipe, round(len(data.train) * share), ())
    return recipe_from_dict(values, plugins.CLASSIFIERS, changes) if changes else recipe


def is_config(name: str) -> bool:
    """Whether a config's name, or a .py file in a folder called like the benchmark, is for it."""
    if name.endswith(".py"):
        return Path(name).resolve().parent.name == BENCHMARK
    return name in benchmark_configs(BENCHMARK)


def _fill(mean: tuple[float, ...]) -> tuple[int, ...]:
    """As timm's `create_transform` makes it of the mean."""
    return tuple(min(255, round(255 * x)) for x in mean)
