"""Where the time of training goes: steps of a recipe, timed as they are and then taken apart."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from sslbench.errors import UserError
from sslbench.method import Progress, ViewBatch
from sslbench.recipes.recipe import Recipe
from sslbench.system.distributed import World
from sslbench.system.interrupts import Interrupted
from sslbench.system.peak import peak_flops
from sslbench.training import dry_run
from sslbench.training.journal import StepResult
from sslbench.training.meter import Meter, peak_memory
from sslbench.training.precision import use_bf16
from sslbench.training.run import Run, load_views, set_up
from sslbench.training.train import PARTS, train

WARM_UP, APART = 2, 2  # steps before the clock starts, and steps that are taken apart
SHOWN = 8  # operators


@dataclass(frozen=True)
class Profile:
    """The speed of a recipe's steps on one process.

    images_per_s; data_wait: share of the time that waits for data; flops: of an image, without drop
    path; peak: FLOP/s of a matrix product in this precision, measured beside it; memory: bytes at
    most; parts: name -> share of the time of a step; operators: the same for torch's own.
    """

    images_per_s: float
    data_wait: float
    flops: int
    peak: float
    memory: int
    parts: dict[str, float]
    operators: dict[str, float]

    @property
    def utilisation(self) -> float:
        """Share of the peak that the recipe's operations reach."""
        return self.flops * self.images_per_s / self.peak

    def lines(self) -> list[str]:
        """For a terminal."""
        shares = [f"  {name:<34} {100 * share:5.1f} %" for name, share in self.parts.items()]
        apart = [f"  {name:<34} {100 * share:5.1f} %" for name, share in self.operators.items()]
        return [
            f"images a second          {self.images_per_s:.4g}",
            f"waiting for data         {100 * self.data_wait:.1f} %",
            f"operations an image      {self.flops / 1e9:.4g} GFLOPs",
            f"of the peak              {100 * self.utilisation:.1f} % of {self.peak / 1e9:.4g} "
            "GFLOP/s, a matrix product's",
            f"memory at most           {self.memory / 2**30:.3g} GiB",
            "parts of a step",
            *shares,
            "operators, their own time",
            *apart,
        ]


class _Clock:
    """Recorder that lets steps pass; a log reads the last of every `log_every`, as in training."""

    def __init__(self, run: Run) -> None:
        self.every, self.meter = run.recipe.run.log_every, Meter(run.recipe.train.batch_size)
        self.device = run.world.device

    def reads(self, done: int) -> bool:
        return done % self.every == 0

    def record(self, result: StepResult) -> None:
        self.meter.count()
        if result.signal:
            raise Interrupted(result.signal, "nothing was written")

    def batches(self, loaded: Iterator[tuple[ViewBatch, list[str]]]) -> Iterator[ViewBatch]:
        while (item := self._next(loaded)) is not None:
            yield item[0]

    def _next(self, loaded: Iterator[tuple[ViewBatch, list[str]]]) -> Any:
        """None at the end; the device has ended its work, which is not to count as waiting."""
        _wait_for(self.device)
        return self.meter.wait(lambda: next(loaded, None))


def measure(recipe: Recipe, world: World, steps: int, group: str) -> Profile:
    """Times `steps` optimiser steps of `recipe`, and takes apart a few more; writes nothing.

    Raises UserError for a recipe that cannot run or whose run is shorter.
    """
    run = set_up(recipe, Path(), world, group)
    every = WARM_UP + steps + APART
    if run.total_steps < every:
        raise UserError(
            f"the run has {run.total_steps} steps, and {every} are needed; lower --steps or raise "
            "train.epochs."
        )
    clock = _Clock(run)
    with closing(iter(load_views(run, 0))) as loaded:
        batches = clock.batches(loaded)
        train(run, _some(batches, run, WARM_UP), range(WARM_UP), clock)
        _wait_for(world.device)
        clock.meter.read()
        train(run, _some(batches, run, steps), range(WARM_UP, WARM_UP + steps), clock)
        _wait_for(world.device)
        speed = clock.meter.read()
        parts, operators = _take_apart(run, _some(batches, run, APART), WARM_UP + steps, clock)
    bf16 = use_bf16(recipe.train.precision, world.device)
    return Profile(
        speed["images_per_s"],
        speed["data_wait_percent"] / 100,
        _flops(recipe, run, group),
        peak_flops(world.device, torch.bfloat16 if bf16 else torch.float32),
        peak_memory(world.device),
        parts,
        operators,
    )


def _some(batches: Iterator[ViewBatch], run: Run, steps: int) -> Generator[ViewBatch, None, None]:
    """The micro-batches of so many steps; the rest stays for later."""
    for _ in range(steps * run.recipe.train.accumulate):
        yield next(batches)


def _take_apart(
    run: Run, batches: Generator[ViewBatch, None, None], start: int, clock: _Clock
) -> tuple[dict[str, float], dict[str, float]]:
    """Shares of the time of the parts that `train` names, and of torch's operators."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would tell of GPUs that it looks for
    cuda = run.world.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    began = time.perf_counter()
    with profile(activities=activities) as profiler:
        train(run, batches, range(start, start + APART), clock)
        _wait_for(run.world.device)
    passed = (time.perf_counter() - began) * 1e6  # the profiler counts microseconds
    events = profiler.key_averages()
    if cuda:
        total = {e.key: e.device_time_total for e in events}
        own = {e.key: e.self_device_time_total for e in events}
    else:
        total = {e.key: e.cpu_time_total for e in events}
        own = {e.key: e.self_cpu_time_total for e in events}
    parts = {name: total.get(name, 0.0) / passed for name in PARTS}
    names = sorted((name for name in own if "::" in name), key=lambda name: -own[name])[:SHOWN]
    return parts | {"the rest, data among it": 1 - sum(parts.values())}, {
        name: own[name] / passed for name in names
    }


def _flops(recipe: Recipe, run: Run, group: str) -> int:
    labelled = run.dataset.labels is not None
    middle = Progress(run.total_steps // 2, run.total_steps, run.steps_per_epoch)
    return dry_run.measure(dry_run.build(recipe, group), recipe, middle, labelled).flops


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
