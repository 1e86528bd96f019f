"""Commands for the image tokenizers that some methods need: `tokenizer train`, `convert`, ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslbench.cli import names
from sslbench.cli.app import app, console, say
from sslbench.cli.checks import with_shortcuts
from sslbench.cli.train import Config, Data, Epochs, Limit, Out, Processes, Resume, Seed, Set
from sslbench.plugins import TOKENIZERS
from sslbench.training.options import check_training

tokenizer_app = typer.Typer(help="Train, convert and look at the image tokenizers of BEiT.")
app.add_typer(tokenizer_app, name="tokenizer")

Tokenizer = Annotated[
    str, typer.Option(help="A run of `tokenizer train` or `convert`, or a published file or name.")
]
Images = Annotated[
    str, typer.Option(help="shapes, digits, torchvision:NAME, a folder or a .txt list of files.")
]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
Size = Annotated[int, typer.Option(min=1, help="Side of the square crop in pixels; BEiT's is 112.")]


@tokenizer_app.command("train")
def tokenizer_train(
    kind: Annotated[
        str,
        typer.Option(
            help="The tokenizer by name (see `list`).",
            autocompletion=names.completing(names.tokenizers),
        ),
    ] = "dvae",
    config: Config = None,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    seed: Seed = None,
    epochs: Epochs = None,
    limit: Limit = None,
    resume: Resume = False,
    nproc: Processes = 1,
) -> None:
    """Train a tokenizer; reports reconstruction error and codebook usage on held-out images."""
    changes = with_shortcuts(set_ or [], seed, epochs)
    check_training(TOKENIZERS, kind, config, data, out, changes, resume, limit)
    from sslbench.evaluation.reconstruction import evaluate_tokenizer
    from sslbench.training.start import start

    folder = start(
        kind, config, data, out, changes, resume, nproc, console, TOKENIZERS, limit=limit
    )
    if folder:
        say(evaluate_tokenizer(folder))


@tokenizer_app.command("convert")
def tokenizer_convert(
    encoder: Annotated[
        str, typer.Argument(help="The published file, e.g. encoder.pkl, or its name (see `list`).")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write, as a run of ours leaves it.")],
    decoder: Annotated[
        str | None, typer.Option(help="decoder.pkl, which `tokenizer reconstruct` needs.")
    ] = None,
) -> None:
    """Make a published tokenizer a run directory: --set needs.tokenizer=DIR then takes it."""
    from sslbench.checkpoints.modules import convert_module
    from sslbench.training.folder import check_free

    check_free(out)
    sha = convert_module([encoder, *([decoder] if decoder else [])], TOKENIZERS, out)
    say(f"{encoder} -> {out}, weights {sha[:12]}")


@tokenizer_app.command("encode")
def tokenizer_encode(
    tokenizer: Tokenizer,
    data: Images,
    out: Annotated[Path, typer.Option(help="The .safetensors file of ids to write.")],
    split: Split = "train",
    size: Size = 112,
) -> None:
    """Write the ids of every image's centre crop; a file that holds them already is left alone."""
    from sslbench.checkpoints.modules import load_module
    from sslbench.data.images import open_dataset
    from sslbench.evaluation.codes import cached_codes

    images = open_dataset(data, split)
    with console.status("encoding") as status:
        ids = cached_codes(
            out,
            load_module(tokenizer, TOKENIZERS),
            images,
            size,
            lambda done, total: status.update(f"encoding {done}/{total}"),
        )
    say(f"{out}: ids of {len(ids)} images of {images.name}, {ids.shape[1]}x{ids.shape[2]} each")


@tokenizer_app.command("reconstruct")
def tokenizer_reconstruct(
    tokenizer: Tokenizer,
    data: Images,
    out: Annotated[Path, typer.Option(help="The .png file to write.")],
    split: Split = "train",
    size: Size = 112,
) -> None:
    """Draw the first images above what the tokenizer keeps of them."""
    from sslbench.checkpoints.modules import load_module
    from sslbench.data.images import open_dataset
    from sslbench.evaluation.reconstruction import draw_reconstructions

    images = open_dataset(data, split)
    say(draw_reconstructions(load_module(tokenizer, TOKENIZERS), images, size, out))
