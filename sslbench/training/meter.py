"""How fast a run trains, and how long all of it will take."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch

T = TypeVar("T")


def peak_memory(device: torch.device) -> int:
    """Bytes held at most so far: on a GPU by tensors, on the CPU by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Meter:
    """Images per second and the share of time spent waiting for data, since the last reading.

    It is the host that waits; a GPU may be at work meanwhile.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.began = self.since = time.monotonic()
        self.waited, self.steps, self.all_steps = 0.0, 0, 0

    def wait(self, fetch: Callable[[], T]) -> T:
        """What `fetch` returns; the time it takes counts as waiting for data."""
        before = time.monotonic()
        fetched = fetch()
        self.waited += time.monotonic() - before
        return fetched

    def count(self) -> None:
        self.steps += 1
        self.all_steps += 1

    def read(self) -> dict[str, float]:
        passed = max(1e-9, time.monotonic() - self.since)
        values = {
            "images_per_s": self.steps * self.batch_size / passed,
            "data_wait_percent": 100 * self.waited / passed,
        }
        self.since, self.waited, self.steps = time.monotonic(), 0.0, 0
        return values

    def estimate(self, total_steps: int, done: int, device: torch.device) -> str:
        """A sentence on steps, memory and time of the whole run, estimated from its first steps."""
        per_step = (time.monotonic() - self.began) / max(1, self.all_steps)
        left = timedelta(seconds=round(per_step * (total_steps - done)))
        memory = peak_memory(device) / 2**30
        return (
            f"estimate after {self.all_steps} steps: {total_steps} steps of {self.batch_size} "
            f"images, {memory:.1f} GiB at peak, about {left} left"
        )
