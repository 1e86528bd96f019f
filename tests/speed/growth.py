"""How time and memory grow with a size, as an exponent: 1 is in proportion to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sslbench.system.distributed import World
from tests.speed.apart import Cost, apart, together
from tests.speed.race import Work

TOO_STEEP = 0.25  # an exponent this much above the algorithm's own is wrong, and not noise


@dataclass(frozen=True)
class Part:
    """A part of sslbench and a size that its cost grows with.

    what: both in words. prepared: size -> the work of that size, whose data are made. order: the
    exponent of the algorithm's own operations at these sizes.
    """

    what: str
    prepared: Callable[[int], Work]
    sizes: tuple[int, ...]
    order: float = 1

    def cost(self, size: int) -> Cost:
        return apart(lambda: self.prepared(size))


@dataclass(frozen=True)
class PartOfProcesses:
    """A part whose size is the number of its processes, all of which are counted.

    prepared: this process's place -> its work.
    """

    what: str
    prepared: Callable[[World], Work]
    sizes: tuple[int, ...]
    order: float = 1

    def cost(self, size: int) -> Cost:
        return together(self.prepared, size)


@dataclass(frozen=True)
class Growth:
    """What one part took at several sizes.

    seconds: CPU seconds; mebibytes: the most that the work held beside its data; both one a size.
    """

    what: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    mebibytes: tuple[float, ...]
    order: float = 1

    @property
    def exponent(self) -> float:
        return exponent(self.sizes, self.seconds)

    def line(self) -> str:
        sizes = ", ".join(f"{size:,}" for size in self.sizes)
        times = ", ".join(f"{seconds:.3g}" for seconds in self.seconds)
        memory = ", ".join(f"{mebibytes:.0f}" for mebibytes in self.mebibytes)
        steep = ", too steep" if self.exponent >= self.order + TOO_STEEP else ""
        return (
            f"{self.what} = {sizes}: {times} s, exponent {self.exponent:.2f} of {self.order:.3g}"
            f"{steep}; {memory} MiB"
        )


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope of log(values) over log(sizes) by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measured(part: Part | PartOfProcesses, rounds: int = 3) -> Growth:
    """Measures every size `rounds` times; the least time and the least memory count."""
    costs = [[part.cost(size) for _ in range(rounds)] for size in part.sizes]
    seconds = tuple(min(cost.seconds for cost in runs) for runs in costs)
    mebibytes = tuple(min(cost.mebibytes for cost in runs) for runs in costs)
    return Growth(part.what, part.sizes, seconds, mebibytes, part.order)
