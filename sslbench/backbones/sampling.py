"""Randomness of a training step that belongs to its samples, not to the process that has them.

The whole batch's draws follow from (seed, step); each process and micro-batch takes those of its
samples. So a run on two processes, or resumed on two, drops the same paths as one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sslbench.system.device import chosen, sent


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

    def kept(self, rows: int) -> Tensor | None:
        """Which of `rows` samples keep the branch, bool (rows,) on the CPU; None: all, unscaled.

        It is drawn on the CPU everywhere: no GPU is waited for to learn how many there are.
        """
        if not self.training or not self.drop_prob:
            return None
        return self.uniform(rows, (), torch.device("cpu")) < 1 - self.drop_prob

    @property
    def scale(self) -> float:
        """The factor of the branches that are kept."""
        return 1 / (1 - self.drop_prob) if self.drop_prob < 1 else 1.0

    def forward(self, branch: Tensor) -> Tensor:
        """branch (rows, ...), where it has been computed for every sample."""
        kept = self.kept(len(branch))
        if kept is None:
            return branch
        factors = sent(kept.to(branch.dtype) * self.scale, branch.device)
        return branch * factors.view(-1, *[1] * (branch.dim() - 1))


def kept_by(drop: nn.Module, samples: int) -> tuple[Tensor | None, float]:
    """The samples whose branch is computed, bool (samples,) on the CPU or None: all; its factor.

    Where no sample keeps it, all are computed, times 0: the weights' gradients are then zeros, not
    missing, which an optimiser and DDP tell apart.
    """
    kept = drop.kept(samples) if isinstance(drop, DropPath) else None
    if kept is None:
        return None, 1.0
    assert isinstance(drop, DropPath)
    if not kept.any():
        return None, 0.0
    return None if kept.all() else kept, drop.scale


Drop = nn.Module | Tensor  # drop path, or the factors of all branches, (samples, 1, ...)


def factors(drop: nn.Module, samples: int, x: Tensor) -> Tensor:
    """What `drop` scales the branch of each sample by, (samples,), of the type of x, on the CPU."""
    kept = drop.kept(samples) if isinstance(drop, DropPath) else None
    if kept is None:
        return torch.ones(samples, dtype=x.dtype)
    assert isinstance(drop, DropPath)
    return kept.to(x.dtype) * drop.scale


def residual(x: Tensor, drop: Drop, branch: Callable[[Tensor], Tensor]) -> Tensor:
    """x + drop(branch(x)), x (samples, ...).

    A branch that drop path drops is not computed; with factors all are.
    """
    if isinstance(drop, Tensor):
        return x + drop * branch(x)
    kept, scale = kept_by(drop, len(x))
    if kept is None:
        return torch.add(x, branch(x), alpha=scale)
    rows = kept.nonzero()[:, 0]
    return add_rows(x, rows, branch(chosen(x, rows)), scale)


def add_rows(x: Tensor, rows: Tensor | None, branch: Tensor, scale: float) -> Tensor:
    """x with `scale` times the branch (R, ...) added to its rows, as of `chosen`; None: to all."""
    if rows is None:
        return torch.add(x, branch, alpha=scale)
    return x.index_add(0, sent(rows, x.device), branch.to(x.dtype), alpha=scale)


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
