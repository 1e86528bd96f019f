"""The commands; thin, no logic. Wrong use ends with one sentence and exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from sslbench import __version__
from sslbench.errors import RunError, UserError

app = typer.Typer(
    help="Pretrain BEiT, DINO and iBOT under equal conditions and judge any checkpoint fairly.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
tokenizer_app = typer.Typer(help="Train the image tokenizers that some methods need.")
app.add_typer(tokenizer_app, name="tokenizer")
console = Console()
RUNS, RESULTS = Path("runs"), Path("results")
INTERRUPTED = 130  # the shell's exit code for Ctrl-C

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
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="What to judge: a run directory, a weights.safetensors, random-init:vit_small/16@224 "
        "or pixels:64; repeatable. Unset: the newest run of each method below runs/.",
    ),
]


@app.callback()
def common(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Options before the command."""


@app.command()
def pretrain(
    method: Annotated[str, typer.Option(help="The method by name, e.g. ibot (see `list`).")],
    config: Config = None,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    resume: Resume = False,
    nproc: Processes = 1,
) -> None:
    """Pretrain a backbone with one method.

    With neither --config nor --data: the embedded dataset and a recipe of minutes on two CPU cores.
    With --data alone: the paper's ViT-S/16 recipe.
    """
    from sslbench.plugins import METHODS

    _train(METHODS, method, config, data, out, set_ or [], resume, nproc)


@tokenizer_app.command("train")
def tokenizer_train(
    kind: Annotated[str, typer.Option(help="The tokenizer by name (see `list`).")] = "dvae",
    config: Config = None,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    resume: Resume = False,
    nproc: Processes = 1,
) -> None:
    """Train a tokenizer; reports reconstruction error and codebook usage on held-out images."""
    from sslbench.evaluation.reconstruction import judge_tokenizer
    from sslbench.plugins import TOKENIZERS

    folder = _train(TOKENIZERS, kind, config, data, out, set_ or [], resume, nproc)
    if folder:
        _say(judge_tokenizer(folder))


def _train(
    group: str,
    method: str,
    config: str | None,
    data: str | None,
    out: Path | None,
    changes: list[str],
    resume: bool,
    processes: int,
) -> Path | None:
    """The run directory, or None in a process that did not train as the first."""
    from sslbench import workflow
    from sslbench.training.distributed import is_first, join_world, relaunch
    from sslbench.training.train import pretrain, rehearse

    if resume:
        if out is None:
            raise UserError("--resume needs --out DIR, the run to go on with.")
        recipe, said = workflow.resumed_recipe(out, method, changes, group), ""
        if config or data:
            raise UserError("--resume goes on with the run's own recipe; drop --config and --data.")
    else:
        recipe, said = workflow.choose_recipe(method, config, data, changes, group)
        out = out or workflow.free_folder(RUNS, recipe)
        if is_first():  # the others may look when the first has begun to write
            workflow.check_free(out)
    if processes > 1:
        rehearse(recipe, processes, group)
        code = relaunch([*_without(sys.argv[1:], "--nproc", "--out"), "--out", str(out)], processes)
        if code:
            raise RunError(f"a process ended with exit code {code}; its last lines say why.")
        return None
    with join_world() as world:
        if world.main:
            _say(*([said] if said else []), f"{recipe.name} -> {out}")
        pretrain(recipe, out, world, resume, console, group)
        return out if world.main else None


def _say(*lines: str) -> None:
    """Plain lines: brackets in a path are no markup, and nothing is wrapped."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _without(arguments: list[str], *options: str) -> list[str]:
    """`arguments` less the options and their values, "--x 1" or "--x=1"."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if not skip and name not in options:
            kept.append(argument)
        skip = not skip and name in options and not equals
    return kept


@app.command()
def evaluate(
    suite: Annotated[str, typer.Option(help="full, frozen or dense (see `list`).")] = "full",
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Single benchmarks instead of a suite; repeatable.")
    ] = None,
    model: Models = None,
    data: Annotated[
        str | None,
        typer.Option(help="Labelled images as for pretrain; unset: what the models trained on."),
    ] = None,
    coco: Annotated[
        str | None,
        typer.Option(help="A COCO folder; unset: embedded scenes beside embedded images."),
    ] = None,
    ade20k: Annotated[
        str | None,
        typer.Option(help="An ADE20K folder; unset: embedded scenes beside embedded images."),
    ] = None,
    split: Annotated[str, typer.Option(help="The split to judge on: validation or test.")] = "test",
    out: Annotated[Path, typer.Option(help="Where records and tables go.")] = RESULTS / "mine",
    force: Annotated[bool, typer.Option(help="Compute again what has a record already.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Detectors and such trained at a time; unset: 2, or 1 on a GPU."),
    ] = None,
) -> None:
    """Judge backbones with the papers' protocols; floors are always measured too."""
    from sslbench import workflow

    sources = model or workflow.newest_runs(RUNS)
    given = {workflow.IMAGES: data, "coco": coco, "ade20k": ade20k}
    asked = benchmark or suite
    results = workflow.evaluate(sources, asked, given, split, out, force, console, jobs)
    _show(workflow.write_tables(out, results))
    _say(f"records and tables are in {out}")


@app.command()
def table(
    out: Annotated[Path, typer.Option(help="The folder of records.")] = RESULTS / "mine",
    layout: Annotated[str, typer.Option(help="frozen or all.")] = "frozen",
    format: Annotated[str, typer.Option(help="md, latex or csv.")] = "md",
) -> None:
    """Print the comparison table of the records in a folder."""
    from sslbench import workflow

    typer.echo(workflow.table(out, layout, format))


@app.command()
def demo(
    jobs: Annotated[int, typer.Option(min=1, help="Models trained at a time.")] = 2,
) -> None:
    """All methods, the full suite and the tables on the embedded dataset."""
    _campaign("shapes", RUNS / "demo", [0], RESULTS / "demo", jobs)


@app.command()
def reference(
    jobs: Annotated[int, typer.Option(min=1, help="Models trained at a time.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, help="Runs a method, seeds 0, 1, ...")] = 3,
) -> None:
    """The reference runs of the embedded dataset: longer recipes, several seeds, resumable."""
    _campaign("reference", RUNS / "reference", list(range(seeds)), RESULTS / "shapes", jobs)


def _campaign(folder: str, runs: Path, seeds: list[int], out: Path, at_once: int) -> None:
    from sslbench import campaign, workflow
    from sslbench.data.images import open_dataset
    from sslbench.plugins import METHODS

    open_dataset("shapes")  # generated once, before several runs want it
    planned = campaign.plan(folder, runs, seeds)
    campaign.run(planned, at_once, console)
    sources = [str(job.out) for job in planned if job.group == METHODS]
    given = {workflow.IMAGES: "shapes"}
    results = workflow.evaluate(sources, "full", given, "test", out, False, console, at_once)
    _show(workflow.write_tables(out, results))
    _say(f"records and tables are in {out}")


def _show(markdown: str) -> None:
    if console.is_terminal:
        console.print(Markdown(markdown))
    else:
        typer.echo(markdown)


@app.command("list")
def list_() -> None:
    """What is installed: methods, tokenizers, benchmarks, recipes, backbones, datasets."""
    from sslbench.overview import inventory

    for kind, names in inventory().items():
        console.print(f"[bold]{kind}[/bold]")
        for name, about in names.items():
            _say(f"  {name:<24} {about}")


@app.command()
def doctor() -> None:
    """What this machine has, and what of it sslbench will use."""
    from sslbench.overview import diagnosis

    problems = 0
    for name, (good, about) in diagnosis().items():
        problems += not good
        console.print("[green]ok[/green]" if good else "[red]no[/red]", end="  ")
        _say(f"{name:<12} {about}")
    if problems:
        raise RunError(f"{problems} of these need attention.")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Runs the command line and turns errors into one sentence and an exit code."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        told = _told(error)
        if told is None or "--debug" in sys.argv:
            raise
        sentence, code = told
        typer.echo(f"error: {' '.join(sentence.split())}", err=True)
    if code == INTERRUPTED:
        typer.echo(
            "interrupted; repeat it, or go on with --resume where a run was training.", err=True
        )
    sys.exit(code)


def _told(error: Exception) -> tuple[str, int] | None:
    """Sentence and exit code of an error that somebody can do something about, else None."""
    if isinstance(error, UserError | RunError):
        return str(error), 2 if isinstance(error, UserError) else 1
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}.", 2
    if hasattr(error, "format_message"):  # wrong options; typer's class for them keeps moving
        return f"{error.format_message().rstrip('.')}; see --help.", 2
    return None


if __name__ == "__main__":
    main()
