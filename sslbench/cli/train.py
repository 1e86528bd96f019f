"""The command that trains, `pretrain`, and what every command that trains has in common."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslbench.cli.app import RUNS, app, console, say
from sslbench.errors import UserError

if TYPE_CHECKING:
    from sslbench.config import Recipe

Config = Annotated[
    str | None, typer.Option(help="A recipe by name (see `sslbench list`) or a .py file.")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="shapes, digits, torchvision:NAME, a folder of images (labels are not needed) or a "
        ".txt list of files."
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="The run directory; a new one below runs/ if unset.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting of the recipe, e.g. train.epochs=10; repeatable."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Processes = Annotated[
    int, typer.Option("--nproc", min=1, help="Processes on this machine, one a GPU (torchrun).")
]


@app.command()
def pretrain(
    method: Annotated[
        str | None,
        typer.Option(help="The method by name, e.g. ibot (see `list`); unset: the config's."),
    ] = None,
    config: Config = None,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    resume: Resume = False,
    nproc: Processes = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the run would take; needs no data.")
    ] = False,
) -> None:
    """Pretrain a backbone with one method.

    With neither --config nor --data: the embedded dataset and a recipe of minutes on two CPU cores.
    With --data alone: a recipe for photographs, fitted to their number and this machine.
    """
    from sslbench.plugins import METHODS

    if dry_run:
        from sslbench import runs
        from sslbench.training.dry_run import report

        if resume:
            raise UserError("--resume goes on with a run and --dry-run only looks; drop one.")
        recipe, said = runs.choose_recipe(method, config, data, set_ or [])
        say(*([said] if said else []), *report(recipe, nproc))
        return
    train(METHODS, method, config, data, out, set_ or [], resume, nproc)


def train(
    group: str,
    method: str | None,
    config: str | None,
    data: str | None,
    out: Path | None,
    changes: list[str],
    resume: bool,
    processes: int,
    parent: Path = RUNS,
) -> Path | None:
    """The run directory, or None in a process that did not train as the first.

    parent: where a folder is made if `out` names none.
    """
    from sslbench import runs
    from sslbench.consistency import warnings
    from sslbench.training import folder
    from sslbench.training.distributed import is_first, join_world
    from sslbench.training.launch import launch
    from sslbench.training.run import rehearse
    from sslbench.training.train import pretrain

    if resume:
        if out is None:
            raise UserError("--resume needs --out DIR, the run to go on with.")
        recipe, said = runs.resumed_recipe(out, method, data, changes, group), ""
        if config:
            raise UserError("--resume goes on with the run's own recipe; drop --config.")
    else:
        recipe, said = runs.choose_recipe(method, config, data, changes, group)
        if out and is_first():  # the others may look when the first has begun to write
            folder.check_free(out)
    if not is_first():
        with join_world() as world:
            pretrain(recipe, out or RUNS, world, resume, console, group)
        return None
    with folder.reserved(out, parent, recipe) as place:
        if given := [] if resume else _train_needs(recipe, place):
            recipe, _ = runs.choose_recipe(method, config, data, [*changes, *given], group)
        if processes > 1:
            rehearse(recipe, processes, group)
            own = [*_without(sys.argv[1:], "--nproc", "--out"), "--out", str(place)]
            own += [part for change in given for part in ("--set", change)]
            launch(["-m", "sslbench.cli", *own], processes)
            return None
        with join_world() as world, folder.locked(place):
            say(*([said] if said else []), *warnings(recipe, group), f"{recipe.name} -> {place}")
            return pretrain(recipe, place, world, resume, console, group)


def _train_needs(recipe: Recipe, out: Path) -> list[str]:
    """Trains what `recipe` needs and nobody gave, in this process, beside `out`.

    Changes as of --set that say where each of it is.
    """
    from sslbench.plugins import group_of
    from sslbench.training.distributed import is_alone

    changes = []
    for kind, config in recipe.to_train_first().items():
        source, group = recipe.data.source, group_of(kind)
        if not is_alone():
            raise UserError(
                f"under torchrun nothing is trained first: run `sslbench {kind} train --config "
                f"{shlex.quote(config)} --data {shlex.quote(source)}` and pass --set "
                f"needs.{kind}=DIR."
            )
        seed = [f"train.seed={recipe.train.seed}"]
        say(f"{recipe.name} needs a {kind}, which is trained first (--set needs.{kind}=DIR: yours)")
        folder = train(group, None, config, source, None, seed, False, 1, out.parent)
        changes.append(f"needs.{kind}={str(folder)!r}")
    return changes


def _without(arguments: list[str], *options: str) -> list[str]:
    """`arguments` less the options and their values, "--x 1" or "--x=1"."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if not skip and name not in options:
            kept.append(argument)
        skip = not skip and name in options and not equals
    return kept
