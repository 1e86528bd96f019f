"""The whole of an evaluation: open data, load models and floors, run benchmarks, keep records."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from sslbench.benchmark import Benchmark
from sslbench.checkpoints.classifier import SETTINGS
from sslbench.errors import UserError, nearest
from sslbench.evaluation.jobs import LeftOut, lacking
from sslbench.evaluation.loading import load_models, with_floors
from sslbench.evaluation.opening import IMAGES, open_data
from sslbench.evaluation.suite import WORK_DIR, find_benchmarks, run_suite
from sslbench.evaluation.watcher import ConsoleWatcher
from sslbench.recipes.load import benchmark_configs
from sslbench.reporting.rendering import RECORDS
from sslbench.reporting.store import Store
from sslbench.result import Result
from sslbench.storage.home import expanded
from sslbench.system.machine import denormals_as_zeros, limit_threads
from sslbench.system.printing import printable

log = logging.getLogger(__name__)


def configured(benchmarks: Sequence[Benchmark], configs: Sequence[str]) -> list[Benchmark]:
    """`benchmarks`, each set to those of the `configs` (names or files) that are for it.

    Raises UserError for a config that is for no benchmark.
    """
    found: list[Benchmark] = []
    configs = list(dict.fromkeys(map(_one_config, configs)))
    unused = configs
    for benchmark in benchmarks:
        fit = [] if lacking(benchmark) else configs
        made = {c: b for c in fit if (b := benchmark.configured(c)) is not None}
        unused = [c for c in unused if c not in made]
        found += made.values() or [benchmark]
    if unused:
        names = [benchmark.name for benchmark in benchmarks]
        known = [c for name in names for c in benchmark_configs(name)]
        remedy = f"{nearest(unused[0], known)}, or give a .py file"
        if unused[0].endswith(".py"):
            remedy = "put the file into a folder that is named like its benchmark"
        sentence = f"--config {printable(unused[0])} is for none of {', '.join(names)}: {remedy}."
        raise UserError(sentence)
    return found


def _one_config(config: str) -> str:
    """The path of a config file in one spelling, because it is part of the protocol."""
    if not config.endswith(".py"):
        return config
    path, here = expanded(config).resolve(), Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def released(results: Sequence[Result]) -> list[str]:
    """The results of a given classifier, one line each; small tables have no column for it."""
    found = [f"{r.setting}: {r.metric} {r.value:.2f}" for r in results if r.setting in SETTINGS]
    return found or ["the classifier was not used: no benchmark that ran reads one"]


@denormals_as_zeros()
def evaluate(
    sources: Sequence[str],
    suite: str | Sequence[str | Benchmark],
    data: Mapping[str, str | None],
    split: str,
    out: Path,
    force: bool,
    console: Console,
    at_once: int | None = None,
    work_dir: Path = WORK_DIR,
    classifier: Path | None = None,
    data_name: str | None = None,
    configs: Sequence[str] = (),
    limit: int | None = None,
) -> list[Result]:
    """Evaluates `sources` and their floors; records go to `out`/records.jsonl.

    data: kind -> source, see `open_data`. at_once: jobs with processes of their own that run at a
    time; None: one with a GPU, else two. classifier: see `load_models`.
    data_name: the name of the images in records. configs: used instead of those that benchmarks
    choose. limit: images per split; benchmarks of other data are left out then. Raises RunError at
    the end if something failed.
    """
    limit_threads()
    benchmarks, broken = find_benchmarks(suite)
    benchmarks = configured(benchmarks, configs)
    if limit:
        others = [b for b in benchmarks if b.kind != IMAGES]
        broken += [LeftOut(b.name, f"--limit is for images, not for {b.kind} data") for b in others]
        benchmarks = [b for b in benchmarks if b.kind == IMAGES]
    store = Store(out / RECORDS)
    store.load()  # a damaged file is found before hours of work
    models, unread = load_models(sources, classifier)
    kinds = {b.kind for b in benchmarks if not lacking(b)}
    opened = open_data(kinds, data, list(models), split, data_name, limit)
    with ConsoleWatcher(console) as watcher:
        return run_suite(
            with_floors(list(models.values())),
            opened,
            benchmarks,
            store,
            left_out=(*unread, *broken),
            force=force,
            cache_dir=cache_folder(),
            work_dir=work_dir,
            jobs_at_once=at_once or (1 if torch.cuda.is_available() else 2),
            watcher=watcher,
        )


def cache_folder() -> Path | None:
    """The cache of features shared by this user's commands; None, with a warning, if none."""
    from sslbench.storage.home import home

    try:
        return home() / "features"
    except UserError as error:
        log.warning("features are not cached: %s", error)
        return None
