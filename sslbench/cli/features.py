"""The command that writes frozen features for other programs: `features`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslbench.cli.app import app, say


@app.command()
def features(
    model: Annotated[
        str, typer.Option(help="What `evaluate --model` takes, e.g. a run or ibot_vits16.")
    ],
    data: Annotated[
        str,
        typer.Option(
            help="shapes, digits, torchvision:NAME, a folder of images (labels are not needed) or "
            "a .txt list of files."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The .npz or .parquet file to write.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    pool: Annotated[
        str, typer.Option(help="cls, mean (mean patch), 'mean without norm' or cls+mean.")
    ] = "cls",
    layers: Annotated[
        int, typer.Option(min=1, max=4, help="How many of the last blocks give their [CLS].")
    ] = 1,
    norm: Annotated[
        bool, typer.Option("--norm/--no-norm", help="Through the final norm or not.")
    ] = True,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Compute in bf16: faster, and not exact.")
    ] = False,
) -> None:
    """Write the frozen features of every image, with its name, for other programs."""
    from sslbench.api import features as compute
    from sslbench.evaluation.feature_table import check_format

    check_format(out)
    table = compute(model, data, split, pool=pool, layers=layers, norm=norm, bf16=bf16)
    say(f"{table.save(out)}: {len(table)} images, {table.x.shape[1]} features each")
