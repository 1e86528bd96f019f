"""The command line's root: the app, its console, and how it speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslbench.storage.layout import RUNS as RUNS
from sslbench.system.printing import SafeConsole

app = typer.Typer(
    help="Pretrain BEiT, DINO and iBOT under equal conditions and judge any checkpoint fairly.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = SafeConsole()
say = console.say
RESULTS = Path("results")


@app.callback()
def common(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Options before the command."""
