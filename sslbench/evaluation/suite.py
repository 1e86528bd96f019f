"""Runs benchmarks over models, keeps each record as soon as it exists, and skips what is known."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import NamedTuple

import torch

from sslbench import plugins
from sslbench.backbones.load import LoadedModel
from sslbench.benchmark import Benchmark, Data
from sslbench.errors import RunError, UserError, nearest
from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.jobs import Job, Work, plan, runnable
from sslbench.evaluation.naming import one_card, told_anew
from sslbench.evaluation.provenance import Provenance
from sslbench.evaluation.watcher import Watcher
from sslbench.reporting.result import Result
from sslbench.reporting.store import Store, latest

WORK_DIR = Path("runs") / "evaluate"
log = logging.getLogger(__name__)


def find_benchmarks(asked: str | Sequence[str | Benchmark]) -> list[Benchmark]:
    """The benchmarks of a suite's name, or of a list of benchmark names and ready instances.

    Raises UserError for an unknown name.
    """
    if isinstance(asked, str):
        known = [plugins.load(plugins.BENCHMARKS, n) for n in plugins.available(plugins.BENCHMARKS)]
        suites = {suite for benchmark in known for suite in benchmark.suites}
        if asked not in suites:
            raise UserError(f"unknown suite {asked!r}: {nearest(asked, suites)}.")
        return [benchmark() for benchmark in known if asked in benchmark.suites]
    return [
        one if isinstance(one, Benchmark) else plugins.load(plugins.BENCHMARKS, one)()
        for one in asked
    ]


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
) -> list[Result]:
    """All records asked for, old and new: every model x every protocol of every benchmark.

    data: by `Benchmark.kind`. work_dir: where jobs keep run directories. Benchmarks that work
    `apart` run after the others, `jobs_at_once` jobs at a time. A benchmark without data of its
    kind or with a gap in its installation is left out, and `watcher` is told why.
    A job whose records are in `store` is not run again, but recorded anew where its model is now
    said to be something else (see `naming`), unless `force`, which also empties its run
    directory and computes features anew; new records are appended when their job ends. UserError
    and RunError end the suite and the jobs that are running; any other error ends one job and is
    named in a RunError after the rest has run.
    """
    watcher, cancelled = watcher or Watcher(), Event()
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fit = runnable(find_benchmarks(benchmarks), data, watcher)
    provenance = Provenance.here(device)
    cache = FeatureCache(cache_dir) if cache_dir is not None else None
    contexts = [
        EvalContext(model, seed, device, provenance, cache, cancelled=cancelled, fresh=force)
        for model in one_card(models, watcher)
    ]
    known = latest(store.load())
    anew = told_anew(known, [context.model for context in contexts])
    store.append(anew)
    jobs = plan(contexts, fit, data, watcher, Path(work_dir).absolute())
    records = _Records(store, [] if force else [*known, *anew])
    todo = [job for job in jobs if job.work not in records.by_work]
    if force:
        for job in todo:
            shutil.rmtree(job.context.work_dir, ignore_errors=True)
    _run(todo, jobs_at_once, cancelled, watcher, records)
    if records.failures:
        raise RunError(
            f"{len(records.failures)} of {len(jobs)} evaluations failed, the records of the others "
            f"are in {store.path}: {'; '.join(records.failures)}."
        )
    return records.of(jobs)


class _Outcome(NamedTuple):
    """What a job gave: its records, or what went wrong."""

    records: list[Result]
    failure: str = ""


class _Records:
    """The newest records of every run of a benchmark, kept in the store as they come."""

    def __init__(self, store: Store, known: Iterable[Result]) -> None:
        self.store = store
        self.failures: list[str] = []
        self.by_work: dict[Work, list[Result]] = {}
        for result in latest(known):
            self.by_work.setdefault(Work.of(result), []).append(result)

    def add(self, job: Job, outcome: _Outcome) -> None:
        """Stores what a job found, less the floors that another model's job has recorded."""
        if outcome.failure:
            self.failures.append(f"{job.name}: {outcome.failure}")
            return
        new = [r for r in outcome.records if Work.of(r) not in self.by_work]
        self.store.append(new)
        self.by_work.setdefault(job.work, [])
        for result in new:
            self.by_work.setdefault(Work.of(result), []).append(result)

    def of(self, jobs: Sequence[Job]) -> list[Result]:
        """The records of `jobs`, then those of the stand-ins for models under their protocols."""
        works = {job.work: None for job in jobs}
        runs = {work._replace(sha256="") for work in works}
        for work, results in self.by_work.items():
            if not results[0].model.source and work._replace(sha256="") in runs:
                works.setdefault(work)
        return [result for work in works for result in self.by_work[work]]


def _run(
    jobs: Sequence[Job], at_once: int, cancelled: Event, watcher: Watcher, records: _Records
) -> None:
    """Runs `jobs`: first those of this process, model by model, then those that work apart."""
    here = [job for job in jobs if not job.benchmark.apart]
    apart = [job for job in jobs if job.benchmark.apart]
    numbers = {job.work: number for number, job in enumerate([*here, *apart], start=1)}

    def attempt(job: Job) -> _Outcome:
        watcher.starts(job.name, numbers[job.work], len(jobs))
        outcome = _attempt(job)
        watcher.ends(job.name, outcome.failure or job.summary(outcome.records))
        return outcome

    for _, group in groupby(here, key=lambda job: id(job.context.model)):
        for job in group:
            records.add(job, attempt(job))
        job.context.forget()
    torch.cuda.empty_cache()  # of more use to other processes
    _run_apart(apart, at_once, attempt, records, cancelled)


def _attempt(job: Job) -> _Outcome:
    """The job's records, each with the seconds of the whole job; or the failure of this job."""
    start = time.perf_counter()
    try:
        found = job.run()
    except (UserError, RunError):
        raise
    except Exception as error:  # one benchmark's defect must not cost the others their records
        log.debug("%s failed", job.name, exc_info=True)
        return _Outcome([], f"{type(error).__name__}: {error}")
    seconds = round(time.perf_counter() - start, 2)
    return _Outcome([replace(result, seconds=seconds) for result in found])


def _run_apart(
    jobs: Sequence[Job],
    at_once: int,
    attempt: Callable[[Job], _Outcome],
    records: _Records,
    cancelled: Event,
) -> None:
    """Runs `jobs` in threads; whatever ends the suite ends the jobs that run, Ctrl-C too."""

    def attempt_if_wanted(job: Job) -> _Outcome:
        if cancelled.is_set():
            raise RunError(f"{job.name} was not begun.")
        try:
            return attempt(job)
        except BaseException as error:
            causes.append(error)
            cancelled.set()  # at once: this thread would take the next job
            raise

    causes: list[BaseException] = []  # the first one counts: jobs that are ended raise too
    waiting: dict[Future[_Outcome], Job] = {}
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for job in jobs:
                waiting[pool.submit(attempt_if_wanted, job)] = job
            for future in as_completed(list(waiting)):
                records.add(waiting.pop(future), future.result())
        except BaseException as error:
            causes.append(error)
            cancelled.set()
            pool.shutdown(cancel_futures=True)
            for future, job in waiting.items():  # some may have ended well meanwhile
                if not future.cancelled() and future.exception() is None:
                    records.add(job, future.result())
            raise causes[0] from None
