"""Schedules of learning rate and weight decay."""

from __future__ import annotations

import math


def cosine_schedule(
    step: int, total_steps: int, peak: float, end: float, warmup_steps: int = 0, start: float = 0.0
) -> float:
    """The value at `step`: linear start -> peak, then cosine peak -> end.

    As dino/utils.py:187-198: the warm-up is linspace(start, peak, warmup_steps) with both ends, and
    the cosine uses i / length, so `end` is never quite reached.
    """
    if step < warmup_steps:
        return start + (peak - start) * step / max(1, warmup_steps - 1)
    length = max(1, total_steps - warmup_steps)
    return _cosine((step - warmup_steps) / length, peak, end)


def epoch_schedule(
    epoch: int, epochs: float, peak: float, end: float, warmup_epochs: float = 0, start: float = 0.0
) -> float:
    """The value during the whole of `epoch` (from 0): linear start -> peak, then cosine to `end`.

    As timm's CosineLRScheduler where DeiT's main.py:432 and iBOT's evaluation/eval_cls.py:768 step
    it: `step(epoch)` comes after that epoch, so the first two epochs have the same value and
    everything else is an epoch late. The warm-up counts as part of the cosine, which therefore goes
    on below the peak.
    """
    time = max(0, epoch - 1)
    if epoch < warmup_length(warmup_epochs):
        return start + (peak - start) * time / warmup_epochs
    return _cosine(time / epochs, peak, end)


def warmup_length(warmup_epochs: float) -> int:
    """Number of epochs whose value `epoch_schedule` takes from the warm-up."""
    return 1 + math.ceil(warmup_epochs) if warmup_epochs else 0


def _cosine(ratio: float, peak: float, end: float) -> float:
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * min(1.0, ratio)))
