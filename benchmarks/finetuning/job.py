"""One fine-tuning in a run directory: planned by a benchmark, trained by the engine, evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from sslbench import plugins
from sslbench.benchmark import Context, Splits
from sslbench.benchmarks.apart import METRICS, known_metrics, run_apart
from sslbench.benchmarks.finetuning.judge import Judge
from sslbench.benchmarks.finetuning.names import HELD, JUDGED
from sslbench.data.subsets import training_parts
from sslbench.evaluation.opening import open_splits
from sslbench.recipes.load import recipe_from_dict
from sslbench.recipes.recipe import Recipe
from sslbench.storage.files import parse_json, read_small, save_json
from sslbench.storage.layout import has_state
from sslbench.storage.sealed import sealed_json
from sslbench.system.distributed import barrier, join_world
from sslbench.training.folder import locked
from sslbench.training.log import read_log
from sslbench.training.run import length
from sslbench.training.train import pretrain

PLAN = "plan.json"


def finetuned(recipe: Recipe, data: Splits, every: int, folder: Path, context: Context) -> dict:
    """Trains `recipe` in processes of its own below `folder`; "epochs", a list of hits by name.

    every: epochs from one evaluation to the next. A run that was interrupted resumes; one
    that ended is not repeated. Errors are those of `run_apart`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (known := known_metrics(folder)) is not None:
        return known
    write_plan(recipe, data, every, folder)
    trained_on = recipe.data.share * (1 - recipe.data.held_out)
    steps, _ = length(recipe, round(len(data.train) * trained_on))
    return run_apart(["-m", "sslbench.benchmarks.finetuning", str(folder)], folder, context, steps)


def write_plan(recipe: Recipe, data: Splits, every: int, folder: Path) -> None:
    """Writes what `train` does in another process."""
    opened = {"source": data.source, "split": data.split, "limit": data.limit}
    save_json(folder / PLAN, {"recipe": recipe.to_dict(), "data": opened, "every": every})


def train(folder: Path) -> None:
    """Trains what `folder`/plan.json says, evaluates it after every epoch, writes the hits."""
    plan: Mapping[str, Any] = parse_json(read_small(folder / PLAN))
    recipe = recipe_from_dict(plan["recipe"], plugins.CLASSIFIERS)
    splits = open_splits(**plan["data"])
    name, part = JUDGED, splits.test
    if recipe.data.held_out:
        _, held = training_parts(splits.train, recipe.data.share, recipe.data.held_out)
        assert held is not None, "a share above 0 is held out"
        name, part = HELD, held
    with join_world() as world, locked(folder) if world.main else nullcontext():
        pretrain(
            recipe,
            folder,
            world,
            has_state(folder),
            Console(),
            plugins.CLASSIFIERS,
            partial(Judge, parts={name: part}, every=plan["every"]),
            splits.train,
        )
        if world.main:
            epochs = [line for line in read_log(folder) if any(name in key for key in line)]
            save_json(folder / METRICS, sealed_json({"epochs": epochs}))
        barrier(world)
