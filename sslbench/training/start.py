"""From what a user asks for to a finished run: recipe, folder, needed modules, processes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.recipes.consistency import warnings
from sslbench.recipes.recipe import Recipe
from sslbench.storage.layout import RUNS
from sslbench.system.distributed import is_alone, is_first, join_world
from sslbench.system.launch import launch
from sslbench.system.printing import SafeConsole
from sslbench.system.processes import is_launched
from sslbench.training import folder, runs
from sslbench.training.build import build_method, start_method
from sslbench.training.dry_run import with_stand_ins
from sslbench.training.options import check_training, run_to_resume
from sslbench.training.presets import with_start
from sslbench.training.run import rehearse
from sslbench.training.train import pretrain


def start(
    method: str | None,
    config: str | None,
    data: str | None,
    out: Path | None,
    changes: Sequence[str],
    resume: bool,
    processes: int,
    console: SafeConsole,
    group: str = plugins.METHODS,
    parent: Path = RUNS,
    limit: int | None = None,
    init: str | None = None,
) -> Path | None:
    """Trains and returns the run directory; None in a process that only helps another one.

    init: weights to start from, see `presets.with_start`.
    changes: settings as of --set; parent: where a folder is made if `out` names none; limit: steps
    after which training ends, for a smoke test.
    Raises UserError before anything is written, and RunError when the run breaks.
    """
    check_training(group, method, config, data, out, changes, resume, limit, init)
    config, changes = with_start(init, method, config, changes)
    if resume:
        place = run_to_resume(out)
        recipe, remark = runs.resumed_recipe(place, method, data, changes, group), ""
        if config:
            raise UserError("--resume uses the run's own recipe; drop --config.")
    else:
        recipe, remark = runs.choose_recipe(method, config, data, changes, group)
        if limit:
            changes = [*changes, runs.ended_after(limit, recipe, changes)]
            recipe, remark = runs.choose_recipe(method, config, data, changes, group)
        if out and is_first():  # the others may look when the first has begun to write
            folder.check_free(out)
    if not is_first():
        with join_world() as world:
            pretrain(recipe, out or RUNS, world, resume, console, group)
        return None
    with folder.reserved(out, parent, recipe) as place:
        if trained := [] if resume else _train_needs(recipe, place, console, limit):
            changes = [*changes, *trained]
            recipe, _ = runs.choose_recipe(method, config, data, changes, group)
        if processes > 1:
            rehearse(recipe, processes, group)
            command = _command(group, method, config, data, changes, resume)
            launch([*command, "--out", str(place)], processes)
            return place
        with join_world() as world, folder.locked(place):
            lines = [*([remark] if remark else []), *warnings(recipe, group)]
            console.say(*lines, f"{recipe.name} -> {place}")
            pretrain(recipe, place, world, resume, console, group)
            return None if is_launched() else place


def _train_needs(recipe: Recipe, out: Path, console: SafeConsole, limit: int | None) -> list[str]:
    """Trains what `recipe` needs and nobody gave, in this process, beside `out`.

    Returns the changes, as of --set, that say where each of it is.
    """
    changes: list[str] = []
    if recipe.to_train_first() and recipe.init.source:  # refused before minutes of training
        rehearsed = with_stand_ins(recipe, plugins.METHODS)
        start_method(build_method(rehearsed), rehearsed)
    for kind, config in recipe.to_train_first().items():
        source, group = recipe.data.source, plugins.group_of(kind)
        if not is_alone():
            raise UserError(
                f"under torchrun nothing is trained first: run `sslbench {kind} train --config "
                f"{shlex.quote(config)} --data {shlex.quote(source)}` and pass --set "
                f"needs.{kind}=DIR."
            )
        console.say(
            f"{recipe.name} needs a {kind}, which is trained first (--set needs.{kind}=DIR: yours)"
        )
        seed = [f"train.seed={recipe.train.seed}"]
        place = start(None, config, source, None, seed, False, 1, console, group, out.parent, limit)
        changes.append(f"needs.{kind}={str(place)!r}")
    return changes


def _command(
    group: str,
    method: str | None,
    config: str | None,
    data: str | None,
    changes: Sequence[str],
    resume: bool,
) -> list[str]:
    """Arguments of `python` that train the same in a process of its own, but for --out."""
    command, option = ["pretrain"], "--method"
    if group != plugins.METHODS:
        command, option = [plugins.kind_of(group), "train"], "--kind"
    options = {option: method, "--config": config, "--data": data}
    parts = [part for name, value in options.items() if value for part in (name, value)]
    parts += [part for change in changes for part in ("--set", change)]
    debug = ["--debug"] if "--debug" in sys.argv else []
    return ["-m", "sslbench.cli", *debug, *command, *parts, *(["--resume"] if resume else [])]
