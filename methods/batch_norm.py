"""Batch norm over the batch of all processes together, on any device.

torch's SyncBatchNorm, which the official code converts to (dino/main_dino.py:180-183), runs on GPUs
alone; this one computes the same with gloo too: a run is the same on any number of processes.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class BatchNorm(nn.BatchNorm1d):
    """nn.BatchNorm1d for (N, C) whose statistics are over the rows of every process."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        alone = not (dist.is_initialized() and dist.get_world_size() > 1)
        if not self.training or (alone and len(x) > 1):
            return super().forward(x)
        if alone:
            return self._as_remembered(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count = wide.new_full((), len(wide))
        dist.all_reduce(count)
        enough = count > 1  # not asked for by the host, which would wait for the device
        # two passes: the mean of squares less the square of the mean cancels in fp32
        mean = all_reduce(wide.sum(0)) / count.clamp(min=1)
        variance = all_reduce((wide - mean).square().sum(0)) / count.clamp(min=1)
        used = torch.where(enough, mean, self.running_mean)
        spread = torch.where(enough, variance, self.running_var)
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1), enough)
        scaled = (wide - used) * torch.rsqrt(spread + self.eps)
        return (scaled * self.weight + self.bias).to(x.dtype)

    def _as_remembered(self, x: Tensor) -> Tensor:
        """(N, C) normalised by the running statistics: fewer than two rows have no variance."""
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, False, eps=self.eps)

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased: Tensor, enough: Tensor) -> None:
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            moved = running.lerp(new.to(running.dtype), self.momentum)
            running.copy_(torch.where(enough, moved, running))
        self.num_batches_tracked += enough
