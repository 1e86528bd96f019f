"""Randomness of a training step that belongs to its samples, not to the process that has them.

The whole batch's draws follow from (seed, step); each process and micro-batch takes those of its
samples. So a run on two processes, or resumed on two, drops the same paths as one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Place:
    """A micro-batch holds samples `first` to `first + count` of a batch of `total`."""

    first: int
    count: int
    total: int


class PerSample(nn.Module):
    """A module that draws numbers for each sample of its batch; `place`: which samples these are.

    Without a place, as outside our trainer, the micro-batch is taken for the whole batch.
    """

    place: Place | None = None

    def uniform(self, rows: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """(rows, *shape) numbers in [0, 1), fp32; rows: views x samples, all of a view together."""
        place = self.place or Place(0, rows, rows)
        views = rows // place.count
        # from the default generator, whose state is restored where a forward pass is repeated
        if not shape:
            rng = _generator(int(torch.randint(2**62, ())), device)
            every = torch.rand(views, place.total, generator=rng, device=device)
            return every[:, place.first : place.first + place.count].flatten()
        seeds = torch.randint(2**62, (views, place.total))  # much is drawn for each: only if ours
        mine = seeds[:, place.first : place.first + place.count].flatten().tolist()
        return torch.stack(
            [torch.rand(shape, generator=_generator(s, device), device=device) for s in mine]
        )


class DropPath(PerSample):
    """Leaves a residual branch out for a share of the samples and scales the others up.

    Stochastic depth (Huang et al., 2016), as timm.layers.DropPath.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, branch: Tensor) -> Tensor:
        """branch (rows, ...)."""
        if not self.training or not self.drop_prob:
            return branch
        keep = 1 - self.drop_prob
        kept = self.uniform(len(branch), (), branch.device) < keep
        scale = (kept.to(branch.dtype) / keep) if keep else kept.to(branch.dtype)
        return branch * scale.view(-1, *[1] * (branch.dim() - 1))


def set_place(module: nn.Module, place: Place) -> None:
    """Tells every module that draws per sample which samples come next."""
    for child in module.modules():
        if isinstance(child, PerSample):
            child.place = place


def step_seed(seed: int, step: int) -> int:
    """Seeds what is random about one step on every process alike, 63 bits; seed: any integer."""
    said = hashlib.blake2b(f"{seed} {step}".encode(), digest_size=8).digest()
    return int.from_bytes(said, "big") >> 1


def _generator(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)
