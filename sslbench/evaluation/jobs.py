"""The jobs of a suite: which benchmark, set to which protocol, runs on which model and data."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from sslbench.benchmark import Benchmark, Data
from sslbench.data.dense import KINDS
from sslbench.errors import UserError
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.watcher import Watcher
from sslbench.reporting.columns import ColumnKey, heading
from sslbench.reporting.measures import printed
from sslbench.result import ModelCard, Result, digest


class Work(NamedTuple):
    """The identity of one run of one benchmark, which all its settings and metrics share."""

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
    """One benchmark, set to one protocol, on one model and the data of its kind.

    short: its name without the model's.
    """

    work: Work
    name: str
    short: str
    benchmark: Benchmark
    data: Data
    context: EvalContext

    def run(self) -> list[Result]:
        """Runs the benchmark and returns its records; raises whatever the benchmark raises."""
        return self.benchmark.run(self.context.model.backbone, self.data, self.context)

    def summary(self, records: Sequence[Result]) -> str:
        """The main values as text, e.g. "k=20 top1 88.2"."""
        own = [r for r in records if r.model == self.context.model.card]
        found = {(r.setting, r.metric): r for r in own}
        main = [found[pair] for pair in self.benchmark.main if pair in found]
        return ", ".join(
            f"{heading(ColumnKey(r.benchmark, r.setting, r.metric))} "
            + (f"none ({r.missing})" if r.missing else printed(r.value, 1))
            for r in main
        )


@dataclass(frozen=True)
class LeftOut:
    """What will not run, e.g. "detection on pixels", and why.

    failed: it is broken, so the suite reports it again at its end.
    """

    what: str
    why: str
    failed: bool = False


@dataclass(frozen=True)
class Plan:
    """What will run, and what will not."""

    jobs: tuple[Job, ...]
    left_out: tuple[LeftOut, ...] = ()

    def lines(self, done: Collection[Work]) -> list[str]:
        """The plan as lines of text; `done` has records already."""
        states = {
            "will run": [job for job in self.jobs if job.work not in done],
            "done already": [job for job in self.jobs if job.work in done],
        }
        count = [f"{len(jobs)} {state}" for state, jobs in states.items()]
        lines = [f"evaluations: {', '.join(count)}"]
        for state, jobs in states.items():
            for model, own in groupby(jobs, key=lambda job: called(job.context.model.card)):
                lines.append(f"{state} on {model}: {', '.join(job.short for job in own)}")
        return [*lines, *(f"left out: {said}." for said in self.reasons())]

    def reasons(self) -> list[str]:
        """What is left out, grouped by reason."""
        found: dict[str, list[str]] = {}
        for one in self.left_out:
            found.setdefault(sentence(one.why), []).append(one.what)
        return [f"{', '.join(dict.fromkeys(names))}: {why}" for why, names in found.items()]


def sentence(error: object) -> str:
    """An error message on one line, without its full stop."""
    return " ".join(str(error).split()).rstrip(".")


def unexpected(error: Exception) -> str:
    """A short message for an error that was not foreseen."""
    return sentence(f"{type(error).__name__}: {error}")


def plan(
    contexts: Iterable[EvalContext],
    benchmarks: Sequence[Benchmark],
    data: Mapping[str, Data],
    watcher: Watcher,
    work_dir: Path,
) -> Plan:
    """All jobs: model x benchmark x protocol, model by model, so that features are computed once.

    Nothing is computed here. A benchmark that does not apply to a model is left out, with the
    reason.
    """
    fit, left_out = runnable(benchmarks, data)
    jobs: dict[Work, Job] = {}
    for context in contexts:
        for benchmark in fit:
            what = f"{benchmark.name} on {called(context.model.card)}"
            try:
                found = _jobs(benchmark, data[benchmark.kind], context, watcher, work_dir)
            except UserError as error:
                left_out.append(LeftOut(what, sentence(error)))
            except Exception as error:  # a plugin may raise anything
                left_out.append(LeftOut(what, unexpected(error), failed=True))
            else:
                if not found:
                    left_out.append(LeftOut(what, "it does not apply to this model"))
                for job in found:
                    jobs.setdefault(job.work, job)  # a model may have been asked for twice
    return Plan(tuple(jobs.values()), tuple(left_out))


def _jobs(
    benchmark: Benchmark, data: Data, context: EvalContext, watcher: Watcher, work_dir: Path
) -> list[Job]:
    protocols = benchmark.protocols(context.model, data)
    return [_job(benchmark.under(p), data, context, watcher, work_dir) for p in protocols]


def _job(
    benchmark: Benchmark, data: Data, context: EvalContext, watcher: Watcher, work_dir: Path
) -> Job:
    # a blank record has the identity that the real ones will have
    work = Work.of(context.result(benchmark, data, "", "", 0.0, 1))
    card = context.model.card
    parts = (benchmark.name, benchmark.variant, card.method, card.arch)
    folder = re.sub(r"[^\w.]+", "-", "-".join(filter(None, parts)))
    short = " ".join(filter(None, parts[:2]))
    own = replace(
        context,
        on_progress=partial(watcher.progress, name := f"{short} on {called(card)}"),
        work_dir=work_dir / f"{folder}-{digest(work)}",
    )
    return Job(work, name, short, benchmark, data, own)


def called(card: ModelCard) -> str:
    """A model's name in progress lines."""
    seed = "" if card.seed is None else f"seed {card.seed}"
    arch = "" if card.arch == "none" else card.arch
    return " ".join(filter(None, (card.label, card.method, arch, seed)))


def lacking(benchmark: Benchmark) -> str:
    """What the benchmark needs and this installation lacks, as text; "" if nothing."""
    found = benchmark.diagnosis().items()
    return next((f"{name}: {about}" for name, (fine, about) in found if not fine), "")


def _remedy(kind: str) -> str:
    """How data of a kind is given."""
    if kind in KINDS or kind == "images":
        return f"name its folder with --{'data' if kind == 'images' else kind} DIR"
    return f"name it with --data {kind}=SOURCE"


def runnable(
    benchmarks: Iterable[Benchmark], kinds: Collection[str]
) -> tuple[list[Benchmark], list[LeftOut]]:
    """The benchmarks that can run, and the reasons why the others cannot."""
    fit, left_out = list[Benchmark](), list[LeftOut]()
    for benchmark in benchmarks:
        reason = lacking(benchmark)
        if not reason and benchmark.kind not in kinds:
            reason = f"no {benchmark.kind} data is given; {_remedy(benchmark.kind)}"
        if reason:
            left_out.append(LeftOut(benchmark.name, reason))
        else:
            fit.append(benchmark)
    return fit, left_out
