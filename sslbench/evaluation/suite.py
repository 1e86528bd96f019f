"""Runs benchmarks over models, stores each record at once, and skips existing records."""

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
from sslbench.evaluation.estimate import estimate
from sslbench.evaluation.jobs import LeftOut, plan, sentence
from sslbench.evaluation.naming import one_card, redescribed
from sslbench.evaluation.provenance import Provenance
from sslbench.evaluation.running import Records, Shift
from sslbench.evaluation.watcher import Watcher
from sslbench.reporting.store import Store, latest
from sslbench.result import Result

WORK_DIR = Path("runs") / "evaluate"


def find_benchmarks(
    selection: str | Sequence[str | Benchmark],
) -> tuple[list[Benchmark], list[LeftOut]]:
    """Return the benchmarks of a suite, or of a list of benchmark names and instances.

    The second list names benchmarks that cannot be loaded. Raises UserError for an unknown name.
    """
    known = plugins.available(plugins.BENCHMARKS)
    suite = selection if isinstance(selection, str) else ""
    benchmarks, broken = list[Benchmark](), list[LeftOut]()
    for item in known if suite else selection:
        if not isinstance(item, str):
            benchmarks.append(item)
            continue
        if item not in known:
            plugins.load(plugins.BENCHMARKS, item)  # raises
        try:
            benchmarks.append(plugins.load(plugins.BENCHMARKS, item)())
        except UserError as error:  # the suites of a broken benchmark are unknown
            broken.append(LeftOut(item, sentence(error), failed=not suite))
    suites = {name for benchmark in benchmarks for name in benchmark.suites}
    if suite and suite not in suites:
        raise UserError(f"unknown suite {suite!r}: {nearest(suite, suites)}.")
    return [b for b in benchmarks if not suite or suite in b.suites], broken


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
    """Run every protocol of every benchmark on every model; return all their records, old and new.

    data: by `Benchmark.kind`. work_dir: parent of the jobs' run directories. jobs_at_once: number
    of parallel jobs of benchmarks that work `apart`, which run after the others. left_out: what the
    caller could not prepare. watcher: first gets what will run, what will not and why.

    A job with records in `store` is not run again; if its model is now described differently, its
    records are written again with the new description (see `naming`). With `force` it is run
    again, in an empty run directory and with new features. New records are appended when their job
    ends. Processes that share the store's folder share the jobs. Raises UserError if there is
    nothing to run, and RunError, after all other jobs, if some have failed.
    """
    watcher, cancelled = watcher or Watcher(), Event()
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    selected, broken = find_benchmarks(benchmarks)
    provenance = Provenance.here(device)
    cache = FeatureCache(cache_dir) if cache_dir is not None else None
    contexts = [
        EvalContext(model, seed, device, provenance, cache, cancelled=cancelled, fresh=force)
        for model in one_card(models, watcher)
    ]
    planned = plan(contexts, selected, data, watcher, Path(work_dir).absolute())
    planned = replace(planned, left_out=(*left_out, *broken, *planned.left_out))
    if not planned.jobs:
        raise UserError(f"there is nothing to evaluate: {'; '.join(planned.reasons())}.")
    store.extend(lambda all_: redescribed(latest(all_), [c.model for c in contexts]))
    records = Records(store, since=len(store.load()) if force else 0)
    for line in planned.lines(records.done):
        watcher.say(line)
    todo = [job for job in planned.jobs if job.work not in records.done]
    if todo:
        watcher.say(estimate(todo, store.load(), jobs_at_once).line())
    with Claims(Path(store.path).parent) as claims:
        shift = Shift(records, claims, watcher, cancelled, force)
        shift.run(todo, jobs_at_once)
    failures = [f"{item.what}: {item.why}" for item in planned.left_out if item.failed]
    failures += shift.failures
    if failures:
        raise RunError(
            f"{len(failures)} of {len(planned.jobs) + len(failures) - len(shift.failures)} "
            f"evaluations failed, the records of the others are in {store.path}: "
            f"{'; '.join(failures)}."
        )
    return records.of(planned.jobs)
