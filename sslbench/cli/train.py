"""The command that trains, `pretrain`, and what every command that trains has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslbench.cli.app import app, console, say
from sslbench.errors import UserError

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
    if dry_run:
        from sslbench.training import runs
        from sslbench.training.dry_run import report

        if resume:
            raise UserError("--resume goes on with a run and --dry-run only looks; drop one.")
        recipe, said = runs.choose_recipe(method, config, data, set_ or [])
        say(*([said] if said else []), *report(recipe, nproc))
        return
    from sslbench.training.start import start

    start(method, config, data, out, set_ or [], resume, nproc, console)
