"""Commands that tell what is there: `list`, `doctor`, `version`."""

from __future__ import annotations

import typer

from sslbench import __version__
from sslbench.cli.app import app, console, say
from sslbench.errors import RunError


@app.command("list")
def list_() -> None:
    """What is installed: methods, tokenizers, benchmarks, recipes, backbones, datasets."""
    from sslbench.overview import inventory

    for kind, names in inventory().items():
        console.print(f"[bold]{kind}[/bold]")
        for name, about in names.items():
            say(f"  {name:<24} {about}")


@app.command()
def doctor() -> None:
    """What this machine has, and what of it sslbench will use."""
    from sslbench.overview import diagnosis

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
