"""Per-step schedules of learning rate and weight decay."""

from __future__ import annotations

import math


def cosine_schedule(
    step: int, total_steps: int, peak: float, end: float, warmup_steps: int = 0
) -> float:
    """The value at `step`: linear 0 -> peak, then cosine peak -> end.

    As dino/utils.py:187-198: the warm-up is linspace(0, peak, warmup_steps) with both ends, and the
    cosine uses i / length, so `end` is never quite reached.
    """
    if step < warmup_steps:
        return peak * step / max(1, warmup_steps - 1)
    length = max(1, total_steps - warmup_steps)
    ratio = min(1.0, (step - warmup_steps) / length)
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * ratio))
