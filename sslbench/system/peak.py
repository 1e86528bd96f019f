"""How many operations a second this machine does at best, by which a program's are judged."""

from __future__ import annotations

import time

import torch

from sslbench.system.products import linear

SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices: large enough to reach the peak
REPEATS = 5


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product, the best of `REPEATS`."""
    side = SIDE.get(device.type, SIDE["cpu"])
    a, b = torch.randn(2, side, side, device=device, dtype=dtype)
    taken = []
    for _ in range(REPEATS + 1):  # the first one prepares
        began = time.perf_counter()
        linear(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / min(taken[1:])
