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
        rows = logits.float().flatten(0, -2)  # (rows, K)
        self.observe_sum(rows.sum(0), len(rows))

    @torch.no_grad()
    def observe_sum(self, total: Tensor, rows: int) -> None:
        """Adds the sum (K,) of that many rows of raw logits."""
        self._observed[:-1] += total
        self._observed[-1] += rows

    @torch.no_grad()
    def step(self) -> None:
        """Moves the centre by the logits observed since the last step, if there were any."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self._observed)
        mean = self._observed[:-1] / self._observed[-1].clamp(min=1)
        moved = self.value * self.momentum + mean * (1 - self.momentum)
        self.value.copy_(torch.where(self._observed[-1] > 0, moved, self.value))
        self._observed.zero_()

    def sharpen(self, logits: Tensor, temperature: float) -> Tensor:
        """Logits (..., K) -> probabilities softmax((logits - c) / temperature), fp32, detached."""
        return F.softmax((logits.detach().float() - self.value) / temperature, dim=-1)


def cls_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy in nats over all ordered pairs of different views (DINO eq. 3).

    student: logits (V, B, K), whose first G views are the teacher's;
    teacher: probabilities (G, B, K). Summing the teacher first gives the same value in one pass:
    sum over pairs v != q of t_q . log s_v = (sum_q t_q) . log s_v - [v < G] t_v . log s_v.
    """
    views, crops = len(student), len(teacher)  # V, G
    log_p = F.log_softmax(student.float() / temperature, dim=-1)  # (V, B, K)
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
    """Cross-entropy in nats at masked patches (iBOT eq. 2 as in ibot/main_ibot.py:542-554).

    student: logits (M, K); teacher: probabilities (M, K); both at the M masked tokens, in the order
    of mask: bool (G, B, N), True = masked. It is the mean over the masked tokens of each image
    (their count at least 1), then over all images and views. Images without a mask count as 0,
    since leaving them out would double the weight of this loss where half of them have none.
    count_unmasked False leaves them out all the same, which is nearest to the paper's pseudo-code:
    that divides by the mask's sum and is undefined for them. The images with a mask are then
    counted over all processes, whose losses are averaged.
    """
    log_p = F.log_softmax(student.float() / temperature, dim=-1)  # (M, K)
    counts = mask.sum(-1).flatten()  # (G * B,)
    # the number of rows is said, or a GPU would be asked
    weights = (1 / counts.clamp(min=1)).repeat_interleave(counts, output_size=len(student))  # (M,)
    total = -((teacher * log_p).sum(-1) * weights).sum()
    if count_unmasked:
        return total / mask[..., 0].numel()
    return total / _mean_over_processes(mask.any(-1).sum())


def _mean_over_processes(count: Tensor) -> Tensor:
    """The mean count per process, at least 1 over all of them together."""
    if not dist.is_initialized():
        return count.clamp(min=1)
    dist.all_reduce(count)
    return count.clamp(min=1) / dist.get_world_size()


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy in nats of distributions (..., K); 0 and ln K are the two collapses."""
    return -(probabilities * probabilities.clamp(min=1e-12).log()).sum(-1).mean().detach()


def cosine(start: float, end: float, progress: Progress) -> float:
    """Cosine from start to end by step, which never quite reaches `end` (dino/utils.py:187-198).

    Its ratio is step / total_steps, and the last step is total_steps - 1.
    """
    ratio = progress.step / progress.total_steps
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * ratio))


def temperature(
    start: float, end: float, warmup: float, progress: Progress, delay: float = 0
) -> float:
    """Linear by epoch from start to end over `warmup` epochs after `delay` epochs, then flat.

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
