"""Races: the same work done by sslbench and by others, interleaved, in CPU seconds of one thread.

Machines are shared and change their clock, so no time is compared with one of another run: each
round runs every rival once, and what counts is the median over the rounds of the rounds' ratios.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Work = Callable[[], Any]


@dataclass(frozen=True)
class Race:
    """One piece of work, done in several ways.

    work: what is done, with its sizes. ours: sslbench's way. rivals: name -> another's. wanted:
    rival -> the least ratio (theirs / ours) that the project asks for. unit, amount: how many of
    what one run handles. same: what was found equal between them before the race, in words.
    notes: further measured values, such as FLOPs an image.
    """

    name: str
    work: str
    ours: Work
    rivals: Mapping[str, Work]
    wanted: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""
    amount: float = 1
    same: str = ""
    notes: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """CPU seconds of each round: of ours, and of each rival in the same rounds."""

    ours: list[float]
    rivals: dict[str, list[float]]

    def ratios(self, rival: str) -> list[float]:
        """How many times as long the rival takes, round by round."""
        return [theirs / ours for theirs, ours in zip(self.rivals[rival], self.ours, strict=True)]

    def ratio(self, rival: str) -> float:
        return statistics.median(self.ratios(rival))


def run(race: Race, rounds: int = 5) -> Outcome:
    """Times `race` on one thread; one round before the first is not counted."""
    torch.set_num_threads(1)
    outcome = Outcome([], {name: [] for name in race.rivals})
    for number in range(rounds + 1):
        taken = {name: cpu_seconds(work) for name, work in race.rivals.items()}
        ours = cpu_seconds(race.ours)
        if number:
            outcome.ours.append(ours)
            for name, seconds in taken.items():
                outcome.rivals[name].append(seconds)
    return outcome


def cpu_seconds(work: Work) -> float:
    """CPU seconds of this process, all of its threads, until `work` is done."""
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


def peaks(size: int = 2048, repeats: int = 5) -> dict[str, float]:
    """GFLOP/s of a square matrix product on one thread, the best of `repeats`, by precision."""
    torch.set_num_threads(1)
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(2, size, size, dtype=dtype)
        cpu_seconds(lambda a=a, b=b: a @ b)
        best = min(cpu_seconds(lambda a=a, b=b: a @ b) for _ in range(repeats))
        found[name] = 2 * size**3 / best / 1e9
    return found
