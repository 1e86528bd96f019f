"""Runs benchmarks over models, keeps each record as soon as it exists, and skips what is known."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import torch

from sslbench import plugins
from sslbench.backbones.load import LoadedModel
from sslbench.benchmark import Benchmark, Splits
from sslbench.errors import RunError, UserError, nearest
from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.features import OnProgress, silent
from sslbench.evaluation.provenance import Provenance
from sslbench.reporting.result import Result
from sslbench.reporting.store import Store, latest

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
    data: Splits,
    benchmarks: str | Sequence[str | Benchmark],
    store: Store,
    *,
    force: bool = False,
    seed: int = 0,
    device: torch.device | None = None,
    cache_dir: str | Path | None = None,
    on_progress: OnProgress = silent,
) -> list[Result]:
    """All records asked for, old and new: every model x its poolings x every benchmark.

    A benchmark whose records are in `store` is not run again unless `force`; new records are
    appended when their benchmark ends. UserError and RunError end the suite at once; any other
    error ends one benchmark of one model and is named in a RunError after the rest has run.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    provenance = Provenance.here(device)
    cache = FeatureCache(cache_dir) if cache_dir is not None else None
    known = {} if force else _by_work(store.load())
    jobs = list(_jobs(models, find_benchmarks(benchmarks)))
    results: list[Result] = []
    failures: list[str] = []
    context = None
    for number, job in enumerate(jobs):
        on_progress(str(job), number, len(jobs))
        if context is None or context.model is not job.model:
            context = EvalContext(job.model, seed, device, provenance, cache, on_progress)
        # a blank record tells what the real ones will be known by
        work = _Work.of(context.result(job.benchmark, data, "", "", 0.0, 1))
        if work not in known:
            known[work] = _run(job, data, context, failures)
            store.append(known[work])
        results += known[work]
    on_progress("suite", len(jobs), len(jobs))
    if failures:
        raise RunError(
            f"{len(failures)} of {len(jobs)} evaluations failed, the records of the others are in "
            f"{store.path}: {'; '.join(failures)}."
        )
    return results


@dataclass(frozen=True)
class _Job:
    """One benchmark, set to one pooling, on one model."""

    model: LoadedModel
    benchmark: Benchmark

    def __str__(self) -> str:
        card, pool = self.model.card, getattr(self.benchmark.protocol, "pool", "")
        return " ".join(filter(None, (self.benchmark.name, pool, "on", card.method, card.arch)))


class _Work(NamedTuple):
    """What one run of one benchmark is known by; all its settings and metrics share it."""

    sha256: str
    benchmark: str
    protocol_hash: str
    dataset_fingerprint: str
    split: str
    seed: int

    @classmethod
    def of(cls, r: Result) -> _Work:
        what = (r.model.sha256, r.benchmark, r.protocol_hash)
        return cls(*what, r.dataset_fingerprint, r.split, r.seed)


def _by_work(results: Iterable[Result]) -> dict[_Work, list[Result]]:
    """The newest records of every run of a benchmark."""
    groups: dict[_Work, list[Result]] = {}
    for result in latest(results):
        groups.setdefault(_Work.of(result), []).append(result)
    return groups


def _jobs(models: Iterable[LoadedModel], benchmarks: Sequence[Benchmark]) -> Iterator[_Job]:
    """Model by model, so that its features are computed once; then pooling by pooling."""
    for model in models:
        for pool in model.poolings:
            for benchmark in benchmarks:
                if any(f.name == "pool" for f in fields(benchmark.protocol)):
                    yield _Job(model, type(benchmark)(replace(benchmark.protocol, pool=pool)))
        for benchmark in benchmarks:
            if not any(f.name == "pool" for f in fields(benchmark.protocol)):
                yield _Job(model, benchmark)


def _run(job: _Job, data: Splits, context: EvalContext, failures: list[str]) -> list[Result]:
    """The job's records, each with the seconds of the whole job; [] and a failure noted."""
    start = time.perf_counter()
    try:
        found = job.benchmark.run(job.model.backbone, data, context)
    except (UserError, RunError):
        raise
    except Exception as error:  # one benchmark's defect must not cost the others their records
        log.debug("%s failed", job, exc_info=True)
        failures.append(f"{job}: {type(error).__name__}: {error}")
        return []
    seconds = round(time.perf_counter() - start, 2)
    return [replace(result, seconds=seconds) for result in found]
