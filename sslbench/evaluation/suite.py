"""Runs benchmarks over models, keeps each record as soon as it exists, and skips what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import torch

from sslbench import plugins
from sslbench.benchmark import Benchmark, Data
from sslbench.checkpoints.load import LoadedModel
from sslbench.errors import RunError, UserError, nearest
from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.claims import Claims
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.jobs import LeftOut, plan, sentence
from sslbench.evaluation.naming import one_card, told_anew
from sslbench.evaluation.provenance import Provenance
from sslbench.evaluation.running import Records, Shift
from sslbench.evaluation.watcher import Watcher
from sslbench.reporting.store import Store, latest
from sslbench.result import Result

WORK_DIR = Path("runs") / "evaluate"


def find_benchmarks(
    asked: str | Sequence[str | Benchmark],
) -> tuple[list[Benchmark], list[LeftOut]]:
    """The benchmarks of a suite's name, or of a list of benchmark names and ready instances.

    What is broken costs itself alone and is told. Raises UserError for an unknown name.
    """
    known = plugins.available(plugins.BENCHMARKS)
    suite = asked if isinstance(asked, str) else ""
    found, broken = list[Benchmark](), list[LeftOut]()
    for one in known if suite else asked:
        if not isinstance(one, str):
            found.append(one)
            continue
        if one not in known:
            plugins.load(plugins.BENCHMARKS, one)  # raises
        try:
            found.append(plugins.load(plugins.BENCHMARKS, one)())
        except UserError as error:  # nobody knows of which suites a broken one is
            broken.append(LeftOut(one, sentence(error), failed=not suite))
    suites = {name for benchmark in found for name in benchmark.suites}
    if suite and suite not in suites:
        raise UserError(f"unknown suite {suite!r}: {nearest(suite, suites)}.")
    return [b for b in found if not suite or suite in b.suites], broken


def run_suite(
    models: Sequence[LoadedModel],
    data: Mapping[str, Data],
    benchmarks: str | Sequence[str | Benchmark],
    store: Store,
    *,
    force: bool = False,
    seed: int = 0,
    device: torch.device | None = None,
    cache_dir: str | Path | None = None,
    work_dir: str | Path = WORK_DIR,
    jobs_at_once: int = 1,
    watcher: Watcher | None = None,
    left_out: Sequence[LeftOut] = (),
) -> list[Result]:
    """All records asked for, old and new: every model x every protocol of every benchmark.

    data: by `Benchmark.kind`. work_dir: where jobs keep run directories. Benchmarks that work
    `apart` run after the others, `jobs_at_once` jobs at a time. left_out: what the caller could
    not prepare. `watcher` is told what will run, what not and why before anything does.
    A job whose records are in `store` is not run again, but recorded anew where its model is now
    said to be something else (see `naming`), unless `force`, which also empties its run
    directory and computes features anew; new records are appended when their job ends. Processes
    that share the store's folder share the jobs. UserError where there is nothing to run; what
    fails costs its own records and is named in a RunError after the rest has run.
    """
    watcher, cancelled = watcher or Watcher(), Event()
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked, broken = find_benchmarks(benchmarks)
    provenance = Provenance.here(device)
    cache = FeatureCache(cache_dir) if cache_dir is not None else None
    contexts = [
        EvalContext(model, seed, device, provenance, cache, cancelled=cancelled, fresh=force)
        for model in one_card(models, watcher)
    ]
    planned = plan(contexts, asked, data, watcher, Path(work_dir).absolute())
    planned = replace(planned, left_out=(*left_out, *broken, *planned.left_out))
    if not planned.jobs:
        raise UserError(f"there is nothing to evaluate: {'; '.join(planned.reasons())}.")
    store.extend(lambda all_: told_anew(latest(all_), [c.model for c in contexts]))
    records = Records(store, since=len(store.load()) if force else 0)
    for line in planned.lines(records.done):
        watcher.say(line)
    todo = [job for job in planned.jobs if job.work not in records.done]
    with Claims(Path(store.path).parent) as claims:
        shift = Shift(records, claims, watcher, cancelled, force)
        shift.run(todo, jobs_at_once)
    failures = [f"{one.what}: {one.why}" for one in planned.left_out if one.failed]
    failures += shift.failures
    if failures:
        raise RunError(
            f"{len(failures)} of {len(planned.jobs) + len(failures) - len(shift.failures)} "
            f"evaluations failed, the records of the others are in {store.path}: "
            f"{'; '.join(failures)}."
        )
    return records.of(planned.jobs)
