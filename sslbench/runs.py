"""Run directories: which recipe starts one and where, what resumes it, which is the newest."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sslbench import plugins
from sslbench.backbones.files import expanded
from sslbench.config import Recipe, config_files, load_recipe, recipe_from_dict
from sslbench.data.images import is_named
from sslbench.errors import UserError
from sslbench.training.checkpoint import CONFIG, WEIGHTS
from sslbench.training.stored import checked_recipe, stored_values

# patterns of config names, the best first
SMALL = ("shapes/{}",)
PAPER = ("papers/{}_vit-small-p16_*_in1k", "papers/{}_*", "papers/{}")


def choose_recipe(
    method: str | None,
    config: str | None,
    data: str | None,
    changes: Sequence[str],
    group: str = plugins.METHODS,
) -> tuple[Recipe, str]:
    """The recipe a command line asks for, and a sentence where it was chosen for the user.

    No method: the config's. No config: the small recipe on the embedded dataset; with `data`, the
    paper's, of ViT-S/16 where there is one.
    """
    if method is not None:
        plugins.load(group, method)  # an unknown method is the first thing to say
    changes, said = list(changes), ""
    if config is None:
        if method is None:
            raise UserError("nothing says what to train; pass --method NAME or --config NAME.")
        config = _choose_config(method, PAPER if data else SMALL)
        if data:
            large = ("papers/", "matched/")
            small = ", ".join(n for n in _configs_of(method) if not n.startswith(large))
            said = f"No --config given: {config}, made for ImageNet. Smaller presets: {small}."
    if data:
        changes.insert(0, f"data.source={data!r}")  # quoted: a folder may be called 2012
    return absolute(load_recipe(config, method, changes, group)), said


def _choose_config(method: str, patterns: Sequence[str]) -> str:
    """The first config that fits a pattern, the earlier the better; UserError if none does."""
    files = config_files()
    for pattern in patterns:
        if fitting := fnmatch.filter(files, pattern.format(method)):
            return fitting[0]
    own = _configs_of(method)
    raise UserError(
        f"method {method!r} has no config {patterns[0].format(method)!r}; pass --config with "
        f"{'one of ' + ', '.join(own) if own else 'a file of yours'}."
    )


def _configs_of(method: str) -> list[str]:
    return [name for name in config_files() if name.rsplit("/", 1)[-1].startswith(method)]


def absolute(recipe: Recipe) -> Recipe:
    """The recipe with the places of its data and modules spelt so that they hold in any folder."""
    needs = {name: _absolute(source) for name, source in recipe.needs.items()}
    return replace(
        recipe, data=replace(recipe.data, source=_absolute(recipe.data.source)), needs=needs
    )


def _absolute(source: str) -> str:
    """The absolute path of an existing file or folder; names of datasets as they are."""
    if is_named(source):
        return source
    place, mark, options = source.partition("?")
    path = expanded(place)
    return f"{path.absolute()}{mark}{options}" if path.exists() else source


def resumed_recipe(
    out: Path, method: str | None, data: str | None, changes: Sequence[str], group: str
) -> Recipe:
    """The recipe of the run in `out`; only `run.*` and where things are may change.

    data: where its data lies now. UserError if it is another's.
    """
    values = stored_values(out)
    begun = checked_recipe(out, values, group)
    if method not in (None, begun.method_name):
        raise UserError(
            f"{out} is a run of {begun.method_name!r}, not {method!r}; pass --method "
            f"{begun.method_name}."
        )
    for change in changes:
        if not change.startswith(("run.", "needs.", "data.source=")):
            raise UserError(
                f"--set {change} would change a run half-way; with --resume only run.* may change, "
                "and where its data and modules are (--data, needs.*)."
            )
    moved = [f"data.source={data!r}"] if data else []
    return absolute(recipe_from_dict(values, group, [*changes, *moved]))


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
    """The method a run directory says it was trained with; None if it does not."""
    try:
        return json.loads((run / CONFIG).read_text())["method"]["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
