"""Commands that tell what is there: `list`, `settings`, `doctor`, `version`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslbench import __version__
from sslbench.cli import names
from sslbench.cli.app import app, console, say
from sslbench.errors import RunError, UserError, nearest
from sslbench.recipes.load import find_config, key_and_value


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="Only this kind, e.g. configs; unset: everything.")
    ] = None,
) -> None:
    """What is installed: methods, tokenizers, benchmarks, recipes, backbones, datasets."""
    from sslbench.cli.overview import kinds

    listed = kinds()
    if kind is not None and kind not in listed:
        raise UserError(f"nothing to list of kind {kind!r}: {nearest(kind, listed)}.")
    for title in [kind] if kind else listed:
        console.print(f"[bold]{title}[/bold]")
        lines = listed[title]()
        width = max(24, *map(len, lines))
        for name, about in lines.items():
            say(f"  {name:<{width}} {about}")


@app.command()
def settings(
    config: Annotated[
        str,
        typer.Argument(
            help="A recipe by name (see `sslbench list configs`) or a .py file.",
            autocompletion=names.completing(names.recipes),
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting first, e.g. train.epochs=10; repeatable."),
    ] = None,
) -> None:
    """A recipe's settings: value, meaning, unit, bounds and where each value comes from."""
    find_config(config)
    for change in set_ or []:
        key_and_value(change)
    from sslbench.recipes.explain import explain

    say(*explain(config, set_ or []))


@app.command()
def doctor() -> None:
    """What this machine has, and what of it sslbench will use."""
    from sslbench.cli.overview import diagnosis

    problems = 0
    for name, (good, about) in diagnosis().items():
        problems += not good
        console.print("[green]ok[/green]" if good else "[red]no[/red]", end="  ")
        say(f"{name:<12} {about}")
    if problems:
        raise RunError(f"{problems} of these need attention.")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
