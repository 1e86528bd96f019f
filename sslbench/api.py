"""The public functions that span several rooms: `pretrain`, `features` and `evaluate`.

They do what the commands of the same names do, with the same progress, errors and files.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import torch

from sslbench import plugins
from sslbench.benchmark import FeatureSpec
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.data.dataset import ImageDataset
from sslbench.data.dense import KINDS
from sslbench.data.images import open_dataset
from sslbench.errors import RunError, UserError, nearest
from sslbench.evaluation import evaluate as evaluation
from sslbench.evaluation.feature_table import FeatureTable, feature_table
from sslbench.evaluation.opening import IMAGES
from sslbench.reporting.records import Records
from sslbench.reporting.rendering import write_tables
from sslbench.storage.home import expanded
from sslbench.storage.layout import RUNS
from sslbench.storage.weights import weights_sha256
from sslbench.system.interrupts import Interrupted
from sslbench.system.machine import limit_threads
from sslbench.system.printing import SafeConsole, printable
from sslbench.training import runs
from sslbench.training.start import start

Source = str | Path
RESULTS = Path("results") / "mine"


def pretrain(
    recipe: Source | None = None,
    data: Source | None = None,
    out: Source | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    epochs: float | None = None,
    limit: int | None = None,
    init: Source | None = None,
    resume: bool = False,
    processes: int = 1,
) -> Path:
    """Trains a backbone and returns its run directory, which `load_backbone` and `evaluate` take.

    recipe: a method ("dino"), a recipe by name ("papers/...") or a .py file; a method alone chooses
    its recipe by the data; None: that of the run that is resumed. data: a folder of images,
    "shapes" or another source of `open_dataset`; None: the recipe's. out: the run directory; None:
    a new one below runs/. settings: {"optim.lr": 1e-3, ...}, as --set. limit: steps after which
    training ends, for a smoke test. init: weights to start from, a source of `load_backbone`; a
    method alone then takes a preset of small steps. resume: the run in `out` is resumed. processes:
    on this machine, one per GPU.
    Raises UserError before anything is written, and RunError when the run breaks. After a signal
    the step and its checkpoint are finished; then Ctrl-C raises KeyboardInterrupt, which says how
    to resume, and the others raise SystemExit with 128 + their number.
    """
    values = dict(settings or {})
    values |= {} if seed is None else {"train.seed": seed}
    values |= {} if epochs is None else {"train.epochs": epochs}
    changes = [f"{name}={_plain(value)!r}" for name, value in values.items()]
    method, config = None, None if recipe is None else str(recipe)
    if config in plugins.available(plugins.METHODS):
        method, config = config, None
    with _signals():
        folder = start(
            method,
            config,
            None if data is None else _place(data),
            None if out is None else expanded(out),
            changes,
            resume,
            _count("processes", processes),
            _console(),
            limit=None if limit is None else _count("limit", limit),
            init=None if init is None else str(init),
        )
    if folder is None:
        raise RunError("this process is not the first of its run; call pretrain in one process.")
    return folder


def features(
    model: Source | LoadedModel,
    data: Source | ImageDataset,
    split: str = "train",
    *,
    pool: str = "cls",
    layers: int = 1,
    norm: bool = True,
    bf16: bool = False,
) -> FeatureTable:
    """The frozen features of every image that can be read; labels are not needed.

    model: a source of `load_backbone`, or what it returned; data: a source of `open_dataset`, or
    what it returned. pool: "cls", "mean" (mean patch), "mean without norm" or "cls+mean"; layers:
    how many of the last blocks give their [CLS]; norm: whether through the final norm. See
    `FeatureSpec`. bf16: faster, and not exact. Raises UserError for an unknown model, dataset or
    pooling.
    """
    spec = FeatureSpec(_count("layers", layers), pool, norm)
    limit_threads()
    loaded = model if isinstance(model, LoadedModel) else load_backbone(model)
    dataset = data if isinstance(data, ImageDataset) else open_dataset(_place(data), split)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _console().status("features") as status:
        return feature_table(
            loaded,
            dataset,
            spec,
            device,
            lambda what, done, total: status.update(f"{what} {done}/{total}"),
            bf16,
        )


def evaluate(
    models: Source | LoadedModel | Sequence[Source | LoadedModel] | None = None,
    data: Source | Mapping[str, Source] | None = None,
    suite: str | Sequence[str] = "full",
    *,
    split: str = "test",
    out: Source = RESULTS,
    data_name: str | None = None,
    configs: Sequence[Source] = (),
    classifier: Source | None = None,
    force: bool = False,
    limit: int | None = None,
    jobs: int | None = None,
) -> Records:
    """Evaluates models and their floors; the records asked for, old and new.

    models: sources of `load_backbone`, or what it returned; None: the newest run of each method.
    data: labelled images, or a mapping from kind to source, {"images": ..., "coco": ...,
    "ade20k": ...}; None: what the models were trained on. suite: its name, or a list of benchmarks.
    split: "test" or "validation". out: the folder of records and tables. limit: images per split,
    for a smoke test. The others are as the options of `sslbench evaluate`. Raises UserError before
    anything is evaluated, and RunError at the end where an evaluation failed; the records of the
    others are in `out`.
    """
    sources = dict(data) if isinstance(data, Mapping) else {IMAGES: data}
    known = {IMAGES, *KINDS, *plugins.available(plugins.DATA)}
    if unknown := [str(kind) for kind in sources if kind not in known]:
        raise UserError(f"data names an unknown kind {unknown[0]!r}: {nearest(unknown[0], known)}.")
    folder = expanded(out)
    try:
        with _signals():
            results = evaluation.evaluate(
                _sources(models),
                suite,
                {kind: None if x is None else _place(x) for kind, x in sources.items()},
                split,
                folder,
                force,
                _console(),
                None if jobs is None else _count("jobs", jobs),
                classifier=None if classifier is None else expanded(classifier),
                data_name=data_name,
                configs=[str(config) for config in configs],
                limit=None if limit is None else _count("limit", limit),
            )
    except RunError:
        write_tables(folder)
        raise
    write_tables(folder)
    return Records(results)


@contextmanager
def _signals() -> Iterator[None]:
    """Raise for a signal what Python raises for it, and what a shell expects: see `pretrain`."""
    try:
        yield
    except Interrupted as end:
        if end.number == signal.SIGINT:
            raise KeyboardInterrupt(end.sentence) from None
        _console().say(end.sentence)
        raise SystemExit(end.code) from None


def _count(name: str, value: object) -> int:
    """A number of steps, images, layers or processes; UserError for what counts nothing."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise UserError(f"{name}={value!r} is not a whole number from 1; choose such a number.")
    return int(value)


def _plain(value: Any) -> Any:
    """The value of a setting as the recipe writes it: no numbers of numpy or torch, no `Path`."""
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _place(data: object) -> str:
    """A source of `open_dataset` as text; UserError for what is no name and no path."""
    if isinstance(data, str | Path):
        return str(data)
    name = getattr(data, "name", type(data).__name__)
    raise UserError(
        f"data must be a name or a path, not a {type(data).__name__} ({printable(str(name))}); "
        "every process and record has to find it again."
    )


def _sources(models: Source | LoadedModel | Sequence[Source | LoadedModel] | None) -> list[str]:
    """What `evaluate` was given as sources of `load_backbone`."""
    if models is None:
        return runs.newest_runs(RUNS)
    if isinstance(models, str) or not isinstance(models, Sequence):
        return [_source(models)]
    return [_source(model) for model in models]


def _source(model: Source | LoadedModel) -> str:
    """UserError for weights in memory that are not those of the source that they were read from."""
    if isinstance(model, str | Path):
        return str(model)
    if not isinstance(model, LoadedModel):
        raise UserError(
            f"a {type(model).__name__} cannot be evaluated; give a run directory, a checkpoint, a "
            "released name or what load_backbone returned."
        )
    source = next(filter(partial(_holds, model), (model.card.source, model.source)), None)
    if source is None:
        raise UserError(
            f"the weights of {model.card.source} were changed after they were read, or are no "
            "longer there, so no record could say what they are; save them to a file and evaluate "
            "that."
        )
    return f"{model.card.label}={source}" if model.card.label else source


def _holds(model: LoadedModel, source: str) -> bool:
    """Whether `source` leads to the weights of `model`; as text it may not, in another folder."""
    try:
        return _sha256(load_backbone(source)) == _sha256(model)
    except UserError:
        return False


def _sha256(model: LoadedModel) -> str:
    return weights_sha256(model.backbone.state_dict())


def _console() -> SafeConsole:
    """What the commands print to; a notebook gets plain lines, as a log file does."""
    return SafeConsole(force_jupyter=False, force_terminal=sys.stdout.isatty())
