"""The training loop under both libraries: one iteration is one optimiser step, exactly resumable.

mmengine's loop counts micro-batches, draws dropout and region samples from generators that a
restart does not restore, and replays the data to resume. Here everything random about micro-batch
m is a function of (seed, m), so that a resumed run, a run on more processes and a run with more
accumulation take the same steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from torch import Tensor

from sslbench.benchmarks.dense.sampling import MicroBatches, seed_everything
from sslbench.system.interrupts import Interrupted, noted


@LOOPS.register_module()
class StepLoop(IterBasedTrainLoop):
    """max_iters optimiser steps, or max_epochs times the steps that see as many images as the set.

    `wait_seconds` is the time the last step waited for data.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        seed: int,
        max_iters: int | None = None,
        max_epochs: int | None = None,
    ) -> None:
        # the parent only keeps the number; the loader that gives it is built in its constructor
        super().__init__(runner, dataloader, max_iters or 1)
        if max_iters is None:
            self._max_iters = (max_epochs or 1) * len(self.dataloader)
        self.seed, self.wait_seconds = seed, 0.0

    @property
    def batches(self) -> MicroBatches:
        return self.dataloader.batch_sampler

    def run(self) -> Any:
        runner, accumulate = self.runner, self.batches.accumulate
        runner.optim_wrapper.initialize_count_status(
            runner.model, self._iter * accumulate, self._max_iters * accumulate
        )
        self.batches.start = self._iter * self.batches.step_size
        loader = iter(self.dataloader)
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        runner.model.train()
        with noted() as asked:
            while self._iter < self._max_iters:
                self._step(loader)
                self._stop(asked.number)
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def _stop(self, asked: int) -> None:
        """Saves and raises Interrupted where a signal has asked any process for the end."""
        signal_number = torch.tensor(asked)
        all_reduce(signal_number, "max")
        if signal_number and self._iter < self._max_iters:
            self.runner.save(self._iter)
            barrier()
            done = f"saved after step {self._iter} of {self._max_iters}"
            raise Interrupted(int(signal_number), done)

    def _step(self, loader: Iterator[Any]) -> None:
        """All micro-batches of one optimiser step; losses are averaged over them."""
        count = {"batch_idx": self._iter, "data_batch": None}
        self.runner.call_hook("before_train_iter", **count)
        total: dict[str, Tensor] = {}
        self.wait_seconds = 0.0
        for k in range(self.batches.accumulate):
            began = time.perf_counter()
            batch = next(loader)
            self.wait_seconds += time.perf_counter() - began
            number = self._iter * self.batches.step_size + k * self.batches.world
            seed_everything(self.seed, number + self.batches.rank, purpose=1)
            values = self.runner.model.train_step(batch, optim_wrapper=self.runner.optim_wrapper)
            add_scaled(total, values, 1 / self.batches.accumulate)
        self.runner.call_hook("after_train_iter", **count, outputs=total)
        self._iter += 1


def add_scaled(total: dict[str, Tensor], values: Mapping[str, Any], scale: float) -> None:
    """Adds `scale` x `values` to `total` in place, creating what is not there yet."""
    for key, value in values.items():
        scaled = torch.as_tensor(value).detach() * scale
        total[key] = total[key] + scaled if key in total else scaled
