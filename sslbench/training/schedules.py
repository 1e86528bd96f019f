"""Per-step schedules of learning rate and weight decay."""

from __future__ import annotations

import math


def cosine_schedule(
    step: int,
    total_steps: int,
    peak: float,
    end: float,
    warmup_steps: int = 0,
    start: float = 0.0,
) -> float:
    """The value at `step`: linear start -> peak, then cosine peak -> end.

    As dino/utils.py:187-198: the warm-up is linspace(start, peak, warmup_steps) with both ends, and
    the cosine uses i / length, so `end` is never quite reached.
    """
    if step < warmup_steps:
        return start + (peak - start) * step / max(1, warmup_steps - 1)
    length = max(1, total_steps - warmup_steps)
    ratio = min(1.0, (step - warmup_steps) / length)
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * ratio))


def epoch_schedule(
    epoch: int, epochs: float, peak: float, end: float, warmup_epochs: float, start: float
) -> float:
    """The learning rate of a whole epoch, as timm's CosineLRScheduler in DeiT's and iBOT's code.

    The scheduler is stepped with the number of the epoch that has ended (`lr_scheduler.step(epoch)`
    in deit/main.py and ibot/evaluation/eval_cls.py), so each epoch has the value meant for the one
    before, and the first value is used twice. The cosine runs over all epochs, warm-up included.
    """
    t = max(0, epoch - 1)
    if t < warmup_epochs:
        return start + t * (peak - start) / warmup_epochs
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * t / epochs))
