"""The recipe of one fine-tuning: a config of `configs/finetune`, a model and labelled images.

The config says what the paper says. What depends on the model (its architecture, weights, mean and
std) or on the data (where it is, its classes, a budget's epochs) is filled in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator

from sslbench import plugins
from sslbench.backbones.config import BackboneConfig
from sslbench.benchmark import Splits
from sslbench.checkpoints.load import LoadedModel
from sslbench.errors import UserError, nearest
from sslbench.recipes.discovery import check_unclaimed
from sslbench.recipes.fitting import fitted_settings, gpu_settings
from sslbench.recipes.load import benchmark_configs, read_config, recipe_from_dict, section_of
from sslbench.recipes.origins import set_by_user
from sslbench.recipes.recipe import Recipe
from sslbench.result import digest
from sslbench.settings import setting, typed

BENCHMARK = "finetune"
# what a config may say beside a recipe's sections
RATES, EVERY = "rates", "evaluate_every"
GIVEN = "given"  # beside them, as `read` finds it: what the user's file sets, whatever the budget
UNHASHED = ("name", "about", "run", "budget", GIVEN)
# settings added since results/shapes -> the value that means "as before", which is left out
ADDED = {"train.compile": False}
SECTIONS_FILLED_IN = ("method", "backbone", "data", "train")


def _different(rates: tuple[float, ...]) -> tuple[float, ...]:
    """Rates, each of which has a run directory of its own."""
    if len({f"{rate:g}" for rate in rates}) < len(rates):
        raise ValueError("two of them are equal in six digits")
    return rates


@dataclass(frozen=True)
class Trials:
    """What a config tries, and how often it looks."""

    rates: Annotated[
        tuple[Annotated[float, setting("", gt=0, le=1e3)], ...],
        AfterValidator(_different),
        setting("learning rates to try instead of optim.lr; (): that one alone"),
    ] = ()
    evaluate_every: Annotated[int, setting("from one evaluation to the next", "epochs", ge=1)] = 1


def read(name: str) -> dict[str, Any]:
    """The values of a config by name, or of a .py file of the user's.

    Raises UserError for an unknown name, and for a file that cannot be read or has wrong values
    where a recipe has no section.
    """
    values = _values(name)
    _trials(values)
    for section in SECTIONS_FILLED_IN:
        section_of(values, section)
    section_of(values.get("method", {}), "views")
    return values


def _trials(values: Mapping[str, Any]) -> Trials:
    trials: Trials = typed(Trials, {k: values[k] for k in (RATES, EVERY) if k in values}, "")
    return trials


def _values(name: str) -> dict[str, Any]:
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
    return _trials(values).rates


def config_hash(values: Mapping[str, Any], recipe: Recipe) -> str:
    """Hash of every value of a config that can move a number.

    recipe: made of it, which says what a budget came to with these data on this machine.
    """
    decide = {k: v for k, v in values.items() if k not in UNHASHED}
    train = _as_before("train", asdict(replace(recipe.train, seed=0)))
    return digest([decide, train, _as_before("optim", asdict(recipe.optim))])


def _as_before(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    added = {k for k, v in settings.items() if ADDED.get(f"{section}.{k}", ...) == v}
    return {k: v for k, v in settings.items() if k not in added}


def every(values: Mapping[str, Any]) -> int:
    """Epochs from one evaluation to the next."""
    return _trials(values).evaluate_every


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
        "init": {**values.get("init", {}), "source": model.source},
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


def start_of(recipe: Recipe, model: LoadedModel) -> str:
    """What is pretrained when a fine-tuning starts, beside norms: a name in its protocol."""
    kept = ["first projection layer" if recipe.method.projection else "backbone"]
    if recipe.init.heads == "keep" and classes_of(model) == recipe.method.classes:
        kept.append("classifier")
    return " and ".join(kept)


def classes_of(model: LoadedModel) -> int:
    """Classes of the classifier that a model was fine-tuned with, 0 without one."""
    if model.tuned is not None:
        return len(model.tuned.tensors.get("linear.weight", ()))
    linear = getattr(model.classifier, "linear", None)
    return 0 if linear is None else linear.out_features


def is_config(name: str) -> bool:
    """Whether a config's name, or a .py file in a folder called like the benchmark, is for it."""
    if name.endswith(".py"):
        return Path(name).resolve().parent.name == BENCHMARK
    return name in benchmark_configs(BENCHMARK)


def _fill(mean: tuple[float, ...]) -> tuple[int, ...]:
    """As timm's `create_transform` makes it of the mean."""
    return tuple(min(255, round(255 * x)) for x in mean)
