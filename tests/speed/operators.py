"""Where the time of a race goes on either side: python -m tests.speed.operators NAME"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would tell of GPUs that it looks for

import sys
from collections.abc import Iterator, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

from tests.speed.__main__ import RACES, prepared
from tests.speed.race import Work

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn::_linear_pointwise")
WARM_UP, TIMES, SHOWN = 2, 3, 12


def own_seconds(work: Work) -> dict[str, float]:
    """Operator -> CPU seconds of one run that it spends itself, the mean of `TIMES`."""
    torch.set_num_threads(1)
    for _ in range(WARM_UP):
        work()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(TIMES):
            work()
    return {e.key: e.self_cpu_time_total / 1e6 / TIMES for e in profiler.key_averages()}


def lines(name: str, seconds: Mapping[str, float]) -> Iterator[str]:
    """All seconds, those of matrix products and the rest, and the operators that take most."""
    total = sum(seconds.values())
    products = sum(seconds.get(operator, 0.0) for operator in PRODUCTS)
    rest = total - products
    yield f"{name}: {total:.3g} s, matrix products {products:.3g} s, the rest {rest:.3g} s"
    for operator in sorted(seconds, key=lambda o: -seconds[o])[:SHOWN]:
        yield f"  {operator:<40} {seconds[operator]:.3g} s"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in RACES:
        sys.exit(f"{__doc__}\nNAME: {', '.join(RACES)}")
    race = prepared(sys.argv[1])
    for side, work in {"sslbench": race.ours, **race.rivals}.items():
        print(*lines(side, own_seconds(work)), sep="\n", flush=True)
