"""Which recipe starts a run, which one resumes it, and which runs are the newest."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sslbench import plugins
from sslbench.data.places import absolute_place, is_absent
from sslbench.errors import UserError
from sslbench.recipes.fitting import fitted_settings, gpu_settings
from sslbench.recipes.load import config_files, load_recipe, recipe_from_dict
from sslbench.recipes.origins import set_by_user
from sslbench.recipes.recipe import Recipe
from sslbench.storage.files import parse_json, read_small
from sslbench.storage.layout import CONFIG, WEIGHTS
from sslbench.training.data import open_training
from sslbench.training.options import method_to_train
from sslbench.training.stored import checked_recipe, stored_values

# patterns of config names, the best first
SMALL = ("shapes/{}",)
PAPER = ("papers/{}_vit-small-p16_*_in1k", "papers/{}_*", "papers/{}")
PHOTOS = ("photos/{}", *PAPER)
STARTED = ("init/{}",)


def choose_recipe(
    method: str | None,
    config: str | None,
    data: str | None,
    changes: Sequence[str],
    group: str = plugins.METHODS,
) -> tuple[Recipe, str]:
    """The recipe that a user asks for, and a remark where it was chosen or fitted, else "".

    Without a method it is the config's. Without a config it is the small recipe for the embedded
    dataset or, with `data`, the one for photographs, fitted to their number and this machine (see
    `recipes.fitting`).
    """
    if method is not None:
        plugins.load(group, method)  # an unknown method is reported first
    chosen = config is None
    if config is None:
        config = _choose_config(method_to_train(method), _patterns(data))
    if data:
        changes = [f"data.source={data!r}", *changes]  # quoted: a folder may be called 2012
    recipe = load_recipe(config, method, changes, group)
    chosen = chosen and bool(data)
    remark = config if chosen else ""
    if recipe.budget.images:
        recipe, how = _fitted(recipe, config, changes, group)
        remark = f"{config}, {how}"
    remark = f"No --config given: {remark}" if chosen else remark
    if chosen and (paper := _paper(recipe.method_name, config)):
        remark += f". The paper's recipe: --config {paper}"
    return absolute(recipe), remark and f"{remark}."


def ended_after(steps: int, recipe: Recipe, changes: Sequence[str]) -> str:
    """The change, as of --set, by which `recipe` ends after so many steps.

    Raises UserError where `changes` say themselves how long it trains, and for a batch that is
    larger than the dataset.
    """
    if epochs := [change for change in changes if change.startswith("train.epochs=")]:
        raise UserError(f"--limit {steps} contradicts {epochs[0]}; drop one of them.")
    images = len(open_training(recipe.data))
    if not (per_epoch := images // recipe.train.batch_size):
        raise UserError(
            f"train.batch_size={recipe.train.batch_size} is larger than the dataset with {images} "
            "images: set it to at most that with --set train.batch_size=N."
        )
    return f"train.epochs={steps / per_epoch!r}"


def _patterns(data: str | None) -> Sequence[str]:
    if data is None or data == Recipe("", "", None).data.source:
        return SMALL
    return PAPER if is_absent(data) else PHOTOS


def _paper(method: str, config: str) -> str:
    """The paper's config of the method; "" if there is none or `config` is that config."""
    paper = _first_fitting(method, PAPER)
    return "" if paper is None or paper == config else paper


def _fitted(recipe: Recipe, config: str, changes: Sequence[str], group: str) -> tuple[Recipe, str]:
    """`recipe` fitted to its data and this machine by its budget, and a remark that says how."""
    import torch

    own = set_by_user(config)
    given = own | {change.partition("=")[0] for change in changes}
    gpu = gpu_settings(recipe, own) if torch.cuda.is_available() else []
    recipe = load_recipe(config, None, [*gpu, *changes], group)
    images = len(open_training(recipe.data))
    settings = fitted_settings(recipe, images, given)
    recipe = load_recipe(config, None, [*gpu, *settings, *changes], group)
    where = "a GPU" if torch.cuda.is_available() else "a CPU"
    return recipe, (
        f"fitted to {images:,} images and {where}: {recipe.train.epochs:g} epochs in batches of "
        f"{recipe.train.batch_size} (--set train.epochs=N, --set train.batch_size=N)"
    )


def _choose_config(method: str, patterns: Sequence[str]) -> str:
    """The first config that matches the earliest possible pattern; UserError if none does."""
    if config := _first_fitting(method, patterns):
        return config
    configs = _configs_of(method)
    raise UserError(
        f"method {method!r} has no config {patterns[0].format(method)!r}; pass --config with "
        f"{'one of ' + ', '.join(configs) if configs else 'a file of yours'}."
    )


def preset_of(method: str) -> str:
    """The config of a method that starts from weights; UserError if there is none."""
    return _choose_config(method, STARTED)


def _first_fitting(method: str, patterns: Sequence[str]) -> str | None:
    files = config_files()
    for pattern in patterns:
        if fitting := fnmatch.filter(files, pattern.format(method)):
            return fitting[0]
    return None


def _configs_of(method: str) -> list[str]:
    return [name for name in config_files() if name.rsplit("/", 1)[-1].startswith(method)]


def absolute(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths of data, modules and weights, valid in any working folder."""
    needs = {name: absolute_place(source) for name, source in recipe.needs.items()}
    data = replace(recipe.data, source=absolute_place(recipe.data.source))
    init = replace(recipe.init, source=absolute_place(recipe.init.source))
    return replace(recipe, data=data, needs=needs, init=init)


def resumed_recipe(
    out: Path, method: str | None, data: str | None, changes: Sequence[str], group: str
) -> Recipe:
    """The recipe of the run in `out`; only `run.*` and the places of data and modules may change.

    data: where the data is now. Raises UserError if the run is of another method.
    """
    values = stored_values(out)
    _check_group(out, values, group)
    begun = checked_recipe(out, values, group)
    if method not in (None, begun.method_name):
        raise UserError(
            f"{out} is a run of {begun.method_name!r}, not {method!r}; pass --method "
            f"{begun.method_name}."
        )
    for change in changes:
        if not change.startswith(("run.", "needs.", "data.source=")):
            raise UserError(
                f"--set {change} would change a run half-way; with --resume only run.* and the "
                "places of its data and modules (--data, needs.*) may change."
            )
    moved = [f"data.source={data!r}"] if data else []
    return absolute(recipe_from_dict(values, group, [*changes, *moved]))


def _check_group(out: Path, values: Mapping[str, Any], group: str) -> None:
    """Raises UserError for a run that another command trains, and names that command."""
    section = values.get("method")
    name = section.get("name") if isinstance(section, Mapping) else None
    if not isinstance(name, str) or name in plugins.available(group):
        return
    trains = plugins.group_with(name)
    if name not in plugins.available(trains):
        return  # no command trains it, which `checked_recipe` says
    if trains == plugins.CLASSIFIERS:
        raise UserError(
            f"{out} is a fine-tuning, which `sslbench evaluate` trains; repeat the evaluate "
            "command that began it, which resumes it."
        )
    command = "pretrain" if trains == plugins.METHODS else f"{plugins.kind_of(trains)} train"
    raise UserError(
        f"{out} is a run of {name!r}; resume it with `sslbench {command} --resume --out {out}`."
    )


def newest_runs(folder: Path) -> list[str]:
    """The newest finished run of each method below `folder`; UserError if there is none."""
    newest: dict[str, tuple[float, Path]] = {}
    methods = plugins.available(plugins.METHODS)
    for weights in folder.rglob(WEIGHTS):
        method, when = _method_of(weights.parent), weights.stat().st_mtime
        if method in methods and when > newest.get(method, (0.0, weights))[0]:
            newest[method] = (when, weights.parent)
    if not newest:
        raise UserError(
            f"no finished run below {folder}; run `sslbench pretrain --method NAME` first or name "
            "one with --model."
        )
    return [str(path) for _, (_, path) in sorted(newest.items())]


def _method_of(run: Path) -> str | None:
    """The method named by a run directory's config; None if it names none."""
    try:
        return parse_json(read_small(run / CONFIG))["method"]["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
