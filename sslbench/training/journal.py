"""What is recorded of a run while it trains: log lines, warnings, checkpoints, weights."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from sslbench.data.loader import ViewLoader
from sslbench.errors import RunError
from sslbench.method import ViewBatch
from sslbench.storage import layout
from sslbench.system.device import free_to_read
from sslbench.system.distributed import World, barrier
from sslbench.system.interrupts import Interrupted
from sslbench.training.endings import how_to_resume
from sslbench.training.export import at_step, export, export_due
from sslbench.training.health import Health
from sslbench.training.log import RunLog
from sslbench.training.meter import Meter
from sslbench.training.online import Watch
from sslbench.training.run import Run, save

STOP_AFTER = 3  # non-finite steps in a row
ESTIMATE_AFTER = 10  # steps timed before the time left is estimated


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step gave.

    done: steps done, this one included; values: what the method logs, 0-dim tensors of this
    process; norm: of the gradient before clipping; skipped: 1 if the step was skipped, else 0,
    0-dim on the device; signal: the number of the signal that asked any process to stop, else 0.
    """

    done: int
    values: Mapping[str, Tensor]
    norm: Tensor
    lr: float
    decay: float
    skipped: Tensor
    signal: int


class Recorder(Protocol):
    """Is told of every optimiser step, on every process."""

    def reads(self, done: int) -> bool:
        """Whether it reads the values that the step after which `done` are done logs."""
        ...

    def record(self, result: StepResult) -> None: ...


class Journal:
    """Records the steps of a run: RunLog, Health, Watch and Meter fed, checkpoints written."""

    def __init__(
        self, run: Run, loader: ViewLoader, online: Watch, log: RunLog, start: int
    ) -> None:
        """start: steps done when training begins."""
        self.run, self.loader, self.online, self.log, self.start = run, loader, online, log, start
        started = bool(run.recipe.init.source)
        self.health = Health(run.method.health(), run.total_steps, started)
        self.meter = Meter(run.recipe.train.batch_size)
        self.skipped, self.saved = 0, time.monotonic()  # steps skipped in a row; last checkpoint
        self.unread: list[StepResult] = []  # whether they were skipped is still on the device

    def batches(self) -> Generator[ViewBatch, None, None]:
        """The loader's batches, with the wait for each timed and broken files named in the log."""
        with closing(iter(self.loader)) as loaded:
            while (item := self.meter.wait(lambda: next(loaded, None))) is not None:
                batch, broken = item
                for text in broken:
                    self.log.skipped(text)
                yield batch

    def reads(self, done: int) -> bool:
        every, total = self.run.recipe.run.log_every, self.run.total_steps
        return done % every == 0 or done == total or self.online.due(done)

    def record(self, result: StepResult) -> None:
        """Logs, saves and exports what is due after a step.

        Raises Interrupted once a signalled step is saved, and RunError for too many skipped in a
        row, as soon as it reads them.
        """
        run, recipe, done = self.run, self.run.recipe, result.done
        last = done == run.total_steps
        self.unread.append(result)
        self.meter.count()
        if self._due_to_read_skipped(result):
            self._read_skipped()
        if self.reads(done):
            self._write(result)
        if done == self.start + ESTIMATE_AFTER:
            self.log.say(self.meter.estimate(run.total_steps, done, run.world.device))
        if run.world.main and (self._save_due(done) or last or result.signal):
            save(run, done)
            self.saved = time.monotonic()
        if run.world.main and export_due(recipe, done, run.steps_per_epoch):
            export(run.trained(done), at_step(run.out, done))
        if result.signal and not last:
            barrier(run.world)
            raise Interrupted(
                result.signal,
                f"saved after step {done} of {run.total_steps}; {how_to_resume(run)}",
            )

    def _write(self, result: StepResult) -> None:
        """A line of the log, and the warnings that follow from it."""
        run, done = self.run, result.done
        measured = self.online.values(done, run.recipe.run.log_every, run.total_steps)
        line = {"step": done, "epoch": done / run.steps_per_epoch}
        line |= {"lr": result.lr, "decay": result.decay, "grad_norm": float(result.norm)}
        line |= _mean_values(result.values, run.world)
        line |= self.meter.read() | measured
        self.log.write(line)
        for text in self.loader.exchange():
            self.log.skipped(text)
        for warning in self.health.check(line):
            self.log.say(warning)

    def _save_due(self, done: int) -> bool:
        intervals = self.run.recipe.run
        late = time.monotonic() - self.saved > 60 * intervals.save_minutes
        # a checkpoint behind a skipped step that nobody has read would hide it
        return (late and not self.unread) or done % intervals.save_every == 0

    def _due_to_read_skipped(self, result: StepResult) -> bool:
        """Whether it costs nothing, or another reading or a checkpoint follows on all processes."""
        saves = result.done % self.run.recipe.run.save_every == 0
        free = free_to_read(result.skipped)
        return free or saves or self.reads(result.done) or bool(result.signal)

    def _read_skipped(self) -> None:
        """Reports which of the steps since the last reading were skipped."""
        unread, self.unread = self.unread, []
        flags = torch.stack([result.skipped for result in unread]).tolist()
        for result, skipped in zip(unread, flags, strict=True):
            self.skipped = self.skipped + 1 if skipped else 0
            if skipped:
                self._report(result)

    def _report(self, result: StepResult) -> None:
        """Says that a step was skipped; raises RunError for too many in a row."""
        values = result.values.items()
        names = ", ".join(k for k, v in values if not bool(torch.isfinite(v))) or "gradient"
        self.log.say(f"step {result.done} skipped: not finite: {names} ({self.skipped} in a row)")
        if self.skipped >= STOP_AFTER:
            raise RunError(
                f"{self.skipped} steps in a row were not finite (step {result.done}, {names}); the "
                f"last good checkpoint is {self.run.out / layout.STATE}, but resuming meets the "
                "same numbers: start a new run with a lower optim.lr or train.precision=fp32."
            )


def _mean_values(values: Mapping[str, Tensor], world: World) -> dict[str, float]:
    """Logged values as floats, averaged over processes."""
    keys = sorted(values)
    stacked = torch.stack([values[k].float() for k in keys])
    if world.size > 1:
        dist.all_reduce(stacked)
        stacked /= world.size
    return dict(zip(keys, stacked.tolist(), strict=True))
