"""Self-distillation losses of DINO and iBOT, their centres, and their schedules; all in fp32."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from sslbench.method import Progress


class Centre(nn.Module):
    """Running mean of the teacher's raw logits, subtracted before its softmax.

    c <- m c + (1 - m) mean(logits), the mean over every row that all micro-batches and processes
    observed since the last step (DINO eq. 4; dino/main_dino.py:403-416).
    """

    value: Tensor

    def __init__(self, dim: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(dim))
        # last entry counts rows, so that one all-reduce carries sum and count
        self.register_buffer("_observed", torch.zeros(dim + 1), persistent=False)

    @torch.no_grad()
    def observe(self, logits: Tensor) -> None:
        """Adds raw teacher logits (..., K); the centre itself moves only in `step`."""
        rows = logits.float().flatten(0, -2)
        self._observed[:-1] += rows.sum(0)
        self._observed[-1] += len(rows)

    @torch.no_grad()
    def step(self) -> None:
        """Moves the centre and forgets what was observed; a no-op if nothing was."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self._observed)
        mean = self._observed[:-1] / self._observed[-1].clamp(min=1)
        moved = self.value * self.momentum + mean * (1 - self.momentum)
        self.value.copy_(torch.where(self._observed[-1] > 0, moved, self.value))
        self._observed.zero_()

    @torch.no_grad()
    def forget(self) -> None:
        """Drops what was observed, for a step that is skipped."""
        self._observed.zero_()

    def sharpen(self, logits: Tensor, temperature: float) -> Tensor:
        """Teacher probabilities softmax((logits - c) / temperature), fp32, no gradient."""
        return F.softmax((logits.detach().float() - self.value) / temperature, dim=-1)


def cls_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy over all ordered pairs of different views (DINO eq. 3).

    student: logits (V, B, K), the first len(teacher) views being the teacher's own;
    teacher: probabilities (G, B, K). Summing the teacher first gives the same value in one pass:
    sum over pairs v != q of t_q . log s_v = (sum_q t_q) . log s_v - [v < G] t_v . log s_v.
    """
    views, crops = len(student), len(teacher)
    log_p = F.log_softmax(student.float() / temperature, dim=-1)
    everything = (teacher.sum(0) * log_p).sum(-1)  # (V, B)
    same_view = (teacher * log_p[:crops]).sum(-1)  # (G, B)
    pairs = crops * (views - 1)
    return -(everything.mean(1).sum() - same_view.mean(1).sum()) / pairs


def patch_loss(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    temperature: float,
    count_unmasked: bool = True,
) -> Tensor:
    """Masked-patch cross-entropy (iBOT eq. 2 as ibot/main_ibot.py:542-554 computes it).

    student: logits (M, K) and teacher: probabilities (M, K) at the M masked tokens, in the order
    of `mask` bool (V, B, N). Per image the mean over its masked tokens (count at least 1), then
    the mean over all images, those without a mask counting as 0 (trap T4), and over views.
    count_unmasked False leaves the images without a mask out, nearest to the paper's pseudo-code,
    which divides by the mask's sum and is undefined for them (disagreement D7); those with one are
    counted over all processes, whose losses are averaged.
    """
    log_p = F.log_softmax(student.float() / temperature, dim=-1)
    per_image = 1 / mask.sum(-1, keepdim=True).clamp(min=1)  # (V, B, 1)
    weights = per_image.expand(mask.shape)[mask]
    total = -((teacher * log_p).sum(-1) * weights).sum()
    if count_unmasked:
        return total / mask[..., 0].numel()
    return total / _mean_over_processes(mask.any(-1).sum())


def _mean_over_processes(count: Tensor) -> Tensor:
    """The mean of what every process counts, the sum at least 1."""
    if not dist.is_initialized():
        return count.clamp(min=1)
    dist.all_reduce(count)
    return count.clamp(min=1) / dist.get_world_size()


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy in nats of distributions (..., K); 0 and ln K are the two collapses."""
    return -(probabilities * probabilities.clamp(min=1e-12).log()).sum(-1).mean().detach()


def cosine(start: float, end: float, progress: Progress) -> float:
    """Cosine from start to end by step; i/len, so `end` is never quite reached (trap T18)."""
    ratio = progress.step / progress.total_steps
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * ratio))


def temperature(
    start: float, end: float, warmup: float, progress: Progress, delay: float = 0
) -> float:
    """Linear from start to end over `warmup` epochs after `delay` epochs, then flat; by epoch.

    linspace(start, end, warmup) includes both ends (dino/main_dino.py:374-378); a delay keeps
    `start` (ibot/main_ibot.py:503-512).
    """
    epoch = progress.epoch - delay
    if epoch < 0:
        return start
    if epoch >= warmup:
        return end
    # a warm-up of one epoch is linspace(start, end, 1), which is `start`
    return start + (end - start) * min(1.0, epoch / max(1.0, warmup - 1))
