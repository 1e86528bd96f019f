"""Commands that evaluate and compare: `evaluate`, `table`, `demo`, `reference`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslbench.cli import names
from sslbench.cli.app import RESULTS, RUNS, app, console, say
from sslbench.cli.checks import check_evaluation
from sslbench.errors import RunError

if TYPE_CHECKING:
    from sslbench.benchmark import Benchmark

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="What to evaluate: a run directory, a checkpoint "
        "FILE[?key=teacher|student&arch=ViT-S/16], released weights by name (see `list`), "
        "timm:NAME, a folder of transformers, random-init:vit_small/16@224 or pixels:64; NAME=PATH "
        "gives it a name of your own; repeatable. Unset: the newest run "
        "of each method below runs/.",
    ),
]


@app.command()
def evaluate(
    suite: Annotated[
        str,
        typer.Option(
            help="full, frozen, tuned, dense or papers (see `list`).",
            autocompletion=names.completing(names.suites),
        ),
    ] = "full",
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            help="Single benchmarks instead of a suite; repeatable.",
            autocompletion=names.completing(names.benchmarks),
        ),
    ] = None,
    model: Models = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Labelled images as for pretrain; unset: what the models trained on. "
            "KIND=SOURCE: data of another kind; repeatable."
        ),
    ] = None,
    data_name: Annotated[
        str | None,
        typer.Option(help="The name of the images in tables; unset: the folder's name."),
    ] = None,
    coco: Annotated[
        str | None,
        typer.Option(help="A COCO folder; unset: embedded scenes beside embedded images."),
    ] = None,
    ade20k: Annotated[
        str | None,
        typer.Option(help="An ADE20K folder; unset: embedded scenes beside embedded images."),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            help="Of fine-tuning, detection or segmentation, instead of the one made for the "
            "architecture: a name (see `list`) or a .py FILE; repeatable.",
            autocompletion=names.completing(names.benchmark_configs),
        ),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            help="The classifier of the model: a released linear one, a fine-tuned run, or a "
            "released fine-tuned model."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="The split to evaluate on: validation or test.")
    ] = "test",
    out: Annotated[Path, typer.Option(help="Where records and tables go.")] = RESULTS / "mine",
    force: Annotated[
        bool, typer.Option(help="Compute again what has a record already, features included.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Images per split, for a smoke test; records and tables say so."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Detectors and segmenters trained at a time; unset: 2, or 1 on a GPU."
        ),
    ] = None,
) -> None:
    """Evaluate backbones with the papers' protocols; floors are always measured too."""
    check_evaluation(suite, benchmark or (), split, out, data or (), (coco, ade20k), classifier)
    from sslbench.evaluation import evaluate, opening
    from sslbench.training import runs

    sources = model or runs.newest_runs(RUNS)
    dense = {kind: source for kind, source in (("coco", coco), ("ade20k", ade20k)) if source}
    given = {**opening.by_kind(data or ()), **dense}
    asked = benchmark or suite
    with _tables(out):
        results = evaluate.evaluate(
            sources,
            asked,
            given,
            split,
            out,
            force,
            console,
            jobs,
            classifier=classifier,
            data_name=data_name,
            configs=config or (),
            limit=limit,
        )
    say(*(evaluate.released(results) if classifier else ()))


@app.command()
def table(
    out: Annotated[Path, typer.Option(help="The folder of records.")] = RESULTS / "mine",
    layout: Annotated[
        str,
        typer.Option(
            help="frozen, all, optimism or a paper's, e.g. ibot-table1.",
            autocompletion=names.completing(names.layouts),
        ),
    ] = "frozen",
    format: Annotated[
        str | None,
        typer.Option(help="md, latex or csv; unset: md, narrowed to the terminal."),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show the papers' figures beside the records.")
    ] = False,
    columns: Annotated[
        str, typer.Option(help='Only these columns, in this order, e.g. "linear, knn k=20 top1".')
    ] = "",
    rows: Annotated[
        str, typer.Option(help='Only these rows, in this order, e.g. "dino ViT-S/16, ibot*".')
    ] = "",
    labels: Annotated[
        str, typer.Option(help='The columns that name a row, e.g. "method, arch, parameters".')
    ] = "",
    name: Annotated[
        list[str] | None,
        typer.Option(help="OLD=NEW: what is shown instead of a name or heading; repeatable."),
    ] = None,
    caption: Annotated[str, typer.Option(help="The caption; unset: the usual one.")] = "",
    label: Annotated[str, typer.Option(help=r"Of LaTeX's \ref; unset: tab: and the data.")] = "",
) -> None:
    """Print the comparison table of the records in a folder."""
    from sslbench.reporting import rendering, views

    view = views.layout_view(layout, published).changed(
        columns=views.items_of(columns),
        rows=views.items_of(rows),
        labels=views.items_of(labels),
        names=views.names_of(name or ()),
        caption=caption,
        label=label,
    )
    show = rendering.published if published else rendering.table
    typer.echo(show(out, view, format or "md", None if format else _width()))


@app.command()
def demo(
    jobs: Annotated[int, typer.Option(min=1, help="Models trained at a time.")] = 2,
) -> None:
    """All methods, the full suite and the tables on the embedded dataset."""
    _campaign("shapes", RUNS / "demo", [0], RESULTS / "demo", jobs, "full")


@app.command()
def reference(
    jobs: Annotated[int, typer.Option(min=1, help="Models trained at a time.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, help="Runs per method, seeds 0, 1, ...")] = 3,
) -> None:
    """The reference runs of the embedded dataset: longer recipes, several seeds, resumable."""
    runs, out = RUNS / "reference", RESULTS / "shapes"
    _campaign("reference", runs, list(range(seeds)), out, jobs, reference_benchmarks())


def reference_benchmarks() -> list[Benchmark]:
    """Frozen features, fine-tuning, and the linear layer of segmentation."""
    from sslbench.evaluation.evaluate import configured
    from sslbench.evaluation.suite import find_benchmarks

    asked = ("frozen", "tuned", ["segmentation"])
    benchmarks = [benchmark for one in asked for benchmark in find_benchmarks(one)[0]]
    return configured(benchmarks, ["shapes_linear"])


def _campaign(
    folder: str,
    runs: Path,
    seeds: list[int],
    out: Path,
    at_once: int,
    suite: str | Sequence[str | Benchmark],
) -> None:
    from sslbench.data.images import open_dataset
    from sslbench.evaluation import evaluate, opening
    from sslbench.plugins import METHODS
    from sslbench.training import campaign

    open_dataset("shapes")  # generated once, before several runs want it
    planned = campaign.plan(folder, runs, seeds)
    campaign.run(planned, at_once, console)
    sources = [str(job.out) for job in planned if job.group == METHODS]
    given = {opening.IMAGES: "shapes"}
    with _tables(out):
        evaluate.evaluate(sources, suite, given, "test", out, False, console, at_once)


@contextmanager
def _tables(out: Path) -> Iterator[None]:
    """Writes and shows the tables of what was evaluated, though some of it failed."""
    from sslbench.reporting import rendering

    def show() -> None:
        typer.echo(rendering.write_tables(out, width=_width()))
        say(f"records and tables are in {out}")

    try:
        yield
    except RunError:
        show()
        raise
    show()


def _width() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere."""
    return console.width if console.is_terminal else None
