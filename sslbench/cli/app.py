"""The command line's root: the app, its console, and how it speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslbench import __version__
from sslbench.storage.layout import RUNS as RUNS
from sslbench.system.printing import SafeConsole

app = typer.Typer(
    help="Pretrain BEiT, DINO and iBOT under equal conditions and evaluate any checkpoint fairly.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = SafeConsole()
say = console.say
RESULTS = Path("results")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options before the command."""
