"""One optimiser step of the trainer's loop by itself: no log, no checkpoint, no run folder."""

from __future__ import annotations

from collections.abc import Sequence

from sslbench.method import ViewBatch
from sslbench.training.journal import StepResult
from sslbench.training.run import Run
from sslbench.training.train import train


class Results(list[StepResult]):
    """A Recorder that keeps what it is told and, unless told otherwise, reads all of it."""

    record = list.append

    def __init__(self, every: bool = True) -> None:
        super().__init__()
        self.every = every

    def reads(self, done: int) -> bool:
        return self.every


def take_step(run: Run, micro: Sequence[ViewBatch], step: int, logged: bool = True) -> StepResult:
    """Takes step number `step` on these micro-batches; logged: see `Progress`."""
    results = Results(logged)
    train(run, (batch for batch in micro), range(step, step + 1), results)
    return results[0]
