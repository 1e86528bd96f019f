"""The command line's root: the app, its console, and how it speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslbench.printing import SafeConsole

app = typer.Typer(
    help="Pretrain BEiT, DINO and iBOT under equal conditions and judge any checkpoint fairly.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = SafeConsole()
RUNS, RESULTS = Path("runs"), Path("results")


@app.callback()
def common(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Options before the command."""


def say(*lines: str) -> None:
    """Plain lines: brackets in a path are no markup, and nothing is wrapped."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
