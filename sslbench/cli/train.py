"""The command that trains, `pretrain`, and what every command that trains has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslbench.cli import names
from sslbench.cli.app import app, console, say
from sslbench.cli.checks import with_shortcuts
from sslbench.errors import UserError
from sslbench.plugins import METHODS
from sslbench.training.options import check_training

MethodName = Annotated[
    str | None,
    typer.Option(
        help="The method by name, e.g. ibot (see `list`); unset: the config's.",
        autocompletion=names.completing(names.methods),
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        help="A recipe by name (see `sslbench list`) or a .py file.",
        autocompletion=names.completing(names.recipes),
    ),
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
Seed = Annotated[int | None, typer.Option(min=0, help="Short for --set train.seed=N.")]
Epochs = Annotated[float | None, typer.Option(help="Short for --set train.epochs=X.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Steps after which to end, for a smoke test.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")]
Processes = Annotated[
    int,
    typer.Option(
        "--nproc", min=1, help="Processes on this machine, one process per GPU (torchrun)."
    ),
]


@app.command()
def pretrain(
    method: MethodName = None,
    config: Config = None,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    seed: Seed = None,
    epochs: Epochs = None,
    limit: Limit = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a run, a checkpoint, a released name, timm:NAME.",
        ),
    ] = None,
    resume: Resume = False,
    nproc: Processes = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report what the run would take; needs no data.")
    ] = False,
) -> None:
    """Pretrain a backbone with one method.

    With neither --config nor --data: the embedded dataset and a recipe of minutes on two CPU cores.
    With --data alone: a recipe for photographs, fitted to their number and this machine.
    With --init and no --config: a recipe of small steps that takes its sizes from the weights.
    """
    changes = with_shortcuts(set_ or [], seed, epochs)
    if dry_run and resume:
        raise UserError("--resume continues a run and --dry-run only reports; drop one.")
    if dry_run and limit:
        raise UserError("--limit trains a few steps and --dry-run trains none; drop one.")
    asked = None if dry_run else data  # a dry run needs no data
    check_training(METHODS, method, config, asked, out, changes, resume, limit, init)
    if dry_run:
        from sslbench.training import runs
        from sslbench.training.dry_run import report
        from sslbench.training.presets import with_start

        config, changes = with_start(init, method, config, changes)
        recipe, remark = runs.choose_recipe(method, config, data, changes)
        say(*([remark] if remark else []), *report(recipe, nproc))
        return
    from sslbench.training.start import start

    start(method, config, data, out, changes, resume, nproc, console, limit=limit, init=init)
