"""Commands that write weights: `convert` those of others, `export` those of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslbench.cli.app import app, say


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A run, a checkpoint FILE[?key=teacher|student&arch=ViT-S/16], a folder of "
            "transformers, released weights by name (see `list`) or timm:NAME. What a file "
            "does not say: ?mean=0.5,0.5,0.5&std=0.5,0.5,0.5 and ?as=NAME of `list` or "
            "?as=unknown."
        ),
    ],
    to: Annotated[str, typer.Option(help="safetensors, timm or mmpretrain.")] = "safetensors",
    out: Annotated[
        Path | None, typer.Option(help="The file to write; unset: named after the source.")
    ] = None,
) -> None:
    """Read a checkpoint of any origin, account for every key, and write it for another program."""
    from sslbench.checkpoints.convert import convert as write

    path, report = write(source, to, out)
    say(*report.lines(), f"written: {path}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run directory; the run may still be training.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The .safetensors file; unset: weights-stepN.safetensors in the run."),
    ] = None,
) -> None:
    """Write the weights of a run's newest checkpoint, as `evaluate --model` takes them."""
    from sslbench.training.export import export_run

    say(f"written: {export_run(run, out)}")
