"""The jobs of a suite: which benchmark, set to which protocol, runs on which model and data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sslbench.benchmark import Benchmark, Data
from sslbench.errors import UserError
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.watcher import Watcher
from sslbench.reporting.columns import ColumnKey, heading
from sslbench.reporting.measures import printed
from sslbench.reporting.result import ModelCard, Result, digest


class Work(NamedTuple):
    """What one run of one benchmark is known by; all its settings and metrics share it."""

    sha256: str
    benchmark: str
    protocol_hash: str
    dataset_fingerprint: str
    split: str
    seed: int

    @classmethod
    def of(cls, r: Result) -> Work:
        what = (r.model.sha256, r.benchmark, r.protocol_hash)
        return cls(*what, r.dataset_fingerprint, r.split, r.seed)


@dataclass(frozen=True)
class Job:
    """One benchmark, set to one protocol, on one model and the data of its kind."""

    work: Work
    name: str
    benchmark: Benchmark
    data: Data
    context: EvalContext

    def run(self) -> list[Result]:
        """The records, whatever the benchmark raises."""
        return self.benchmark.run(self.context.model.backbone, self.data, self.context)

    def summary(self, records: Sequence[Result]) -> str:
        """The main values in words, e.g. "k=20 top1 88.2"."""
        own = [r for r in records if r.model == self.context.model.card]
        found = {(r.setting, r.metric): r for r in own}
        main = [found[pair] for pair in self.benchmark.main if pair in found]
        return ", ".join(
            f"{heading(ColumnKey(r.benchmark, r.setting, r.metric))} "
            + (f"none ({r.missing})" if r.missing else printed(r.value, 1))
            for r in main
        )


def plan(
    contexts: Iterable[EvalContext],
    benchmarks: Sequence[Benchmark],
    data: Mapping[str, Data],
    watcher: Watcher,
    work_dir: Path,
) -> list[Job]:
    """Every model x benchmark x protocol, model by model, so that features are computed once."""
    jobs: dict[Work, Job] = {}
    for context in contexts:
        for benchmark in benchmarks:
            given = data[benchmark.kind]
            for protocol in benchmark.protocols(context.model, given):
                job = _job(type(benchmark)(protocol), given, context, watcher, work_dir)
                jobs.setdefault(job.work, job)  # a model may have been asked for twice
    return list(jobs.values())


def _job(
    benchmark: Benchmark, data: Data, context: EvalContext, watcher: Watcher, work_dir: Path
) -> Job:
    # a blank record tells what the real ones will be known by
    work = Work.of(context.result(benchmark, data, "", "", 0.0, 1))
    card = context.model.card
    parts = (benchmark.name, benchmark.variant, card.method, card.arch)
    folder = re.sub(r"[^\w.]+", "-", "-".join(filter(None, parts)))
    own = replace(
        context,
        on_progress=partial(watcher.progress, name := _name(benchmark, card)),
        work_dir=work_dir / f"{folder}-{digest(work)}",
    )
    return Job(work, name, benchmark, data, own)


def _name(benchmark: Benchmark, card: ModelCard) -> str:
    seed = "" if card.seed is None else f"seed {card.seed}"
    parts = (benchmark.name, benchmark.variant, "on", card.method, card.arch, seed)
    return " ".join(filter(None, parts))


def lacking(benchmark: Benchmark) -> str:
    """What the benchmark misses in this installation, in a few words; "" if nothing."""
    found = benchmark.diagnosis().items()
    return next((f"{name}: {about}" for name, (fine, about) in found if not fine), "")


def runnable(
    benchmarks: Sequence[Benchmark], kinds: Iterable[str], watcher: Watcher
) -> list[Benchmark]:
    """The benchmarks that are installed whole and have data; one sentence for each reason not to.

    Raises UserError if none is left.
    """
    reasons: dict[str, list[str]] = {}
    fit = []
    for benchmark in benchmarks:
        option = {"images": "data"}.get(benchmark.kind, benchmark.kind)
        reason = lacking(benchmark)
        if not reason and benchmark.kind not in kinds:
            reason = f"no {benchmark.kind} data is given; name its folder with --{option} DIR"
        if reason:
            reasons.setdefault(reason.rstrip("."), []).append(benchmark.name)
        else:
            fit.append(benchmark)
    said = [f"{' and '.join(names)} will not run: {why}." for why, names in reasons.items()]
    if not fit and said:
        raise UserError(" ".join(said))
    for sentence in said:
        watcher.say(sentence)
    return fit
