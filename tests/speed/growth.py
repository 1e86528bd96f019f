"""How time and memory grow with a size, as an exponent: 1 is in proportion to it."""

from __future__ import annotations

import gc
import multiprocessing
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.speed.race import Work, cpu_seconds

Prepared = Callable[[int], Work]  # size -> the work of that size, whose data are made


@dataclass(frozen=True)
class Growth:
    """What one part took at several sizes.

    what: the part, and what its size is. seconds: CPU seconds of one thread; megabytes: the most
    that the work held beside its data. order: the exponent of the algorithm's own operations.
    """

    what: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    megabytes: tuple[float, ...]
    order: float = 1

    @property
    def exponent(self) -> float:
        return exponent(self.sizes, self.seconds)

    def line(self) -> str:
        sizes = ", ".join(f"{size:,}" for size in self.sizes)
        times = ", ".join(f"{seconds:.3g}" for seconds in self.seconds)
        memory = ", ".join(f"{megabytes:.0f}" for megabytes in self.megabytes)
        return (
            f"{self.what} = {sizes}: {times} s, exponent {self.exponent:.2f} of {self.order:g}; "
            f"{memory} MB"
        )


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope of log(values) over log(sizes) by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measured(
    what: str, prepared: Prepared, sizes: Sequence[int], order: float = 1, repeats: int = 3
) -> Growth:
    """Runs the work at every size, each time in a process of its own; the least time counts."""
    found = [[_apart(prepared, size) for _ in range(repeats)] for size in sizes]
    seconds = tuple(min(s for s, _ in runs) for runs in found)
    megabytes = tuple(min(m for _, m in runs) for runs in found)
    return Growth(what, tuple(sizes), seconds, megabytes, order)


def _apart(prepared: Prepared, size: int) -> tuple[float, float]:
    fork = multiprocessing.get_context("fork")
    mine, other = fork.Pipe()
    process = fork.Process(target=_work, args=(prepared, size, other))
    process.start()
    other.close()
    found: tuple[float, float] = mine.recv()
    process.join()
    return found


def _work(prepared: Prepared, size: int, answer: multiprocessing.connection.Connection) -> None:
    torch.set_num_threads(1)
    work = prepared(size)
    gc.collect()  # what the parent left to be freed would be subtracted
    Path("/proc/self/clear_refs").write_text(
        "5"
    )  # forget the peak: that of the parent, of the data
    before = _memory("VmRSS")
    seconds = cpu_seconds(work)
    answer.send((seconds, _memory("VmHWM") - before))


def _memory(name: str) -> float:
    """Megabytes of this process, as Linux knows them under `name`."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, f"Linux says no {name}"
    return int(found[1]) / 1024
