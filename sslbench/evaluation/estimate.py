"""Roughly how long a suite will take, before it starts.

A job is expected to take as long as earlier jobs of its protocol on the same data, architecture
and hardware; where there are none, its benchmark's `cost` at the speed of this machine.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median

import torch

from sslbench.benchmark import Cost, Data, Splits
from sslbench.checkpoints.load import LoadedModel
from sslbench.data.reading import BrokenImage
from sslbench.data.transform import EvalTransform
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.features import BATCH, batch_size, pool_tokens, workers_for
from sslbench.evaluation.jobs import Job, Work, unexpected
from sslbench.evaluation.watcher import duration
from sslbench.result import ModelCard, Result

FEATURES = "features"
QUICK = 2e11  # FLOPs that any machine does in seconds: not worth a measurement
RATE = 5e10  # FLOPs per second of a machine that is not measured
TRAINED = 3  # a forward and backward pass, in forward passes
ENOUGH = 1.0  # seconds after which no larger batch is measured
SHORT = 10  # seconds below which no number is printed
SAMPLE = 8  # images read to measure how long one takes
SIDE = 1024  # of the square matrices whose product gives the speed of other operations
Kind = tuple[Work, str, str]  # of jobs that take equally long, see `_kind`
Item = tuple[str, Cost, Data]  # work that no record times: the part's name, its cost, what it reads
log = logging.getLogger(__name__)


@dataclass
class Estimate:
    """Seconds by part, "features" or a benchmark; names of parts timed by records, or not at all.

    at_once: jobs that work apart and run at a time.
    """

    at_once: int = 1
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    recorded: set[str] = field(default_factory=set)
    unknown: dict[str, None] = field(default_factory=dict)

    def line(self) -> str:
        """E.g. "roughly 12 min in all: features 5 min, detection 7 min (as in earlier runs)"."""
        parts = [
            f"{name} {duration(seconds)}{' (as in earlier runs)' * (name in self.recorded)}"
            for name, seconds in sorted(self.seconds.items(), key=lambda part: part[0] != FEATURES)
        ]
        total = sum(self.seconds.values())
        known = f"roughly {duration(total)} in all: {', '.join(parts)}"
        known = "a few seconds in all" if total < SHORT else known
        unknown = f"the time of {', '.join(self.unknown)} is unknown"
        return "; ".join([known] * bool(parts) + [unknown] * bool(self.unknown))


@dataclass(frozen=True)
class Speed:
    """Seconds per image of a forward pass, per image of reading it, and per FLOP elsewhere."""

    forward: float
    reading: float
    flop: float

    def seconds(self, cost: Cost) -> float:
        """The seconds of `cost` without its frozen features."""
        images = cost.forward + cost.trained
        passes = cost.forward + TRAINED * cost.trained
        computing = passes * self.forward + images * self.reading + cost.flops * self.flop
        return computing + cost.seconds


def estimate(jobs: Sequence[Job], records: Iterable[Result], at_once: int) -> Estimate:
    """Estimate the time of `jobs`, which takes about a second per architecture where it is long.

    records: of earlier runs; at_once: jobs that work apart and run at a time.
    """
    apart = sum(job.benchmark.apart for job in jobs)
    result, earlier = Estimate(max(1, min(at_once, apart))), _earlier(records)
    speeds: dict[str, float] = {}
    for _, group in groupby(jobs, key=lambda job: id(job.context.model)):
        members = list(group)
        items = _untimed(members, earlier, result)
        context = members[0].context
        nominal = _nominal(context.model)
        quick = sum(nominal.seconds(cost) for _, cost, _ in items) < QUICK / RATE
        for name, cost, data in items:
            try:
                speed = nominal if quick else _measured(context, data, speeds)
            except Exception as error:  # of a model; the job itself reports it
                log.warning("the speed of the model cannot be measured (%s)", unexpected(error))
                result.unknown.setdefault(name)
            else:
                result.seconds[name] += speed.seconds(cost)
    return result


def _kind(work: Work, card: ModelCard, hardware: str) -> Kind:
    """Protocol, data, architecture and hardware."""
    return work._replace(sha256="", seed=0), card.arch, hardware


def _earlier(records: Iterable[Result]) -> dict[Kind, tuple[float, bool]]:
    """The seconds of earlier jobs, and whether they computed all of their features."""
    by_kind: dict[Kind, list[Result]] = defaultdict(list)
    for r in records:
        if r.seconds:
            by_kind[_kind(Work.of(r), r.model, r.hardware)].append(r)
    return {
        kind: (median(r.seconds for r in group), not any(r.features for r in group))
        for kind, group in by_kind.items()
    }


def _untimed(
    jobs: Sequence[Job], earlier: Mapping[Kind, tuple[float, bool]], result: Estimate
) -> list[Item]:
    """The work of one model's `jobs` that records do not time; adds to `result` what they do."""
    items, features, timed = list[Item](), dict[tuple[str, bool], Splits](), set[tuple[str, bool]]()
    context = jobs[0].context
    for job in jobs:
        name, cost = job.benchmark.name, _cost(job)
        kind = _kind(job.work, context.model.card, context.provenance.hardware)
        read = cost.features if cost else frozenset()
        if isinstance(job.data, Splits):
            features |= dict.fromkeys(read, job.data)
        if kind in earlier:
            seconds, computed = earlier[kind]
            result.seconds[name] += seconds / (result.at_once if job.benchmark.apart else 1)
            result.recorded.add(name)
            timed |= read if computed else set()
        elif cost is None:
            result.unknown.setdefault(name)
        else:
            items.append((name, cost, job.data))
    for (part, cls_normed), data in features.items():
        if (part, cls_normed) not in timed and not context.has_features(data, part, cls_normed):
            images = len(data.train if part == "train" else data.test)
            items.append((FEATURES, Cost(forward=images), data))
    return items


def _cost(job: Job) -> Cost | None:
    """What the job's benchmark says; None, with a warning, for what is no cost."""
    try:
        cost = job.benchmark.cost(job.context.model, job.data)
        if cost is not None and not isinstance(cost, Cost):
            raise TypeError(f"{cost!r} is no Cost")
    except Exception as error:  # a plugin may raise anything
        log.warning("the cost of %s is not known (%s)", job.name, unexpected(error))
        return None
    return cost


def _nominal(model: LoadedModel) -> Speed:
    """The speed of a machine that is not measured."""
    parameters = sum(p.numel() for p in model.backbone.parameters())
    tokens = (model.image_size / model.backbone.patch_size) ** 2
    return Speed(2 * parameters * tokens / RATE, 0.0, 1 / RATE)


def _measured(context: EvalContext, data: Data, seconds: dict[str, float]) -> Speed:
    """The speed of this machine; seconds: what is measured already, by name."""
    model, device = context.model, context.device
    arch = f"{type(model.backbone)} {getattr(model.backbone, 'config', '')} {model.image_size}"
    measures: dict[str, Callable[[], float]] = {
        arch: lambda: forward_seconds(model, device),
        f"{data.name} {model.image_size}": lambda: reading_seconds(model, data),
        "flop": lambda: flop_seconds(device),
    }
    for name in measures.keys() - seconds.keys():
        seconds[name] = measures[name]()
    return Speed(*(seconds[name] for name in measures))


def forward_seconds(model: LoadedModel, device: torch.device) -> float:
    """Seconds per image of a forward pass: the fastest of growing batches in about a second.

    One batch alone may be slow, because a device is used for the first time or other processes
    have its cores.
    """
    backbone, count, best = model.backbone.to(device).eval(), 1, math.inf
    end = time.perf_counter() + ENOUGH
    while best == math.inf or (count <= BATCH and time.perf_counter() < end):
        images = torch.zeros(count, 3, model.image_size, model.image_size, device=device)
        for _ in range(2):
            start = time.perf_counter()
            pool_tokens(backbone, images, True)  # its result is on the CPU, hence complete
            best = min(best, (time.perf_counter() - start) / count)
        count *= 4
    return best


def reading_seconds(model: LoadedModel, data: Data) -> float:
    """Seconds per image of reading it, by all workers; 0 for data that is not read here."""
    if not isinstance(data, Splits):
        return 0.0
    transform, count = EvalTransform.of(model, data.train), min(SAMPLE, len(data.train))
    start = time.perf_counter()
    for index in range(count):
        with suppress(BrokenImage):
            transform(data.train.image(index))
    workers = workers_for(len(data.train), batch_size())
    return (time.perf_counter() - start) / count / max(1, workers)


def flop_seconds(device: torch.device) -> float:
    """Seconds per floating-point operation of a matrix product, the best of three."""
    matrix, seconds = torch.ones(SIDE, SIDE, device=device), list[float]()
    for _ in range(4):
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        seconds.append(time.perf_counter() - start)
    return min(seconds) / (2 * SIDE**3)
