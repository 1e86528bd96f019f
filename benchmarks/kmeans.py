"""K-means as scikit-learn's, with the same start, steps and end, and its own random draws.

Source: Lloyd's algorithm from k-means++ (Arthur & Vassilvitskii 2007) in its greedy form, which
tries 2 + ln K candidates for every centre and takes the one that lowers the inertia most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sslbench.errors import UserError
from sslbench.system.products import linear
from sslbench.training.precision import use_bf16

TOLERANCE = 1e-4  # of the mean variance: squared distance the centres move in a last step
ROWS = 1024  # points that are compared with all centres at once: a CPU's cache holds the scores
HELD = 2**23  # distances of candidates held at once (32 MiB)
REFRESHED = 8  # candidates are drawn anew when there are 1 / REFRESHED more centres
ROUGH = 2**17  # from this many numbers in all centres on bf16 pays


@torch.inference_mode()
def kmeans(x: Tensor, k: int, iterations: int, seed: int) -> Tensor:
    """The cluster of each point, int64 (N,), after `iterations` steps or when it has converged.

    x: float32 (N, D) on the CPU; k: at most N. UserError for values that are not finite.
    """
    if not x.isfinite().all() or not x.square().sum(dim=1).isfinite().all():
        raise UserError(
            "the features hold NaN, infinite or far too large values, and cannot be clustered; "
            "check the model's weights."
        )
    x = x - x.mean(dim=0)
    return lloyd(x, x[start(x, k, torch.Generator().manual_seed(seed))], iterations)


def lloyd(x: Tensor, centres: Tensor, iterations: int) -> Tensor:
    """As `kmeans`, of points whose mean is 0, from given centres (K, D)."""
    points = Points.of(x, len(centres))
    tolerance = TOLERANCE * float(x.var(dim=0, correction=0).mean())
    before = points.nearest(centres)
    for _ in range(iterations):
        moved = means(x, before, centres)
        shift = float((moved - centres).square().sum())
        centres, labels = moved, points.nearest(moved)
        if shift <= tolerance or torch.equal(labels, before):
            return labels
        before = labels
    return before


def start(x: Tensor, k: int, rng: torch.Generator) -> Tensor:
    """Indices of k points, int64 (k,), by greedy k-means++.

    Every candidate has to be drawn in proportion to its squared distance D from the centres so far.
    Many are drawn together, so that their distances are one matrix product, in proportion to an
    older D; each is then kept with the probability D now / D then, which leaves the wanted law.
    """
    trials, squares = 2 + int(math.log(k)), x.square().sum(dim=1)
    chosen = [int(torch.randint(len(x), (1,), generator=rng))]
    near = (squares + linear(-2 * x[chosen], x)[0] + squares[chosen]).clamp_(min=0)
    while len(chosen) < k:
        count = max(1, min(len(chosen) // REFRESHED, HELD // (len(x) * trials), k - len(chosen)))
        drawn = draw(near, count * trials, rng)
        apart, own = linear(-2 * x[drawn], x, squares), squares[drawn, None]
        coins, then, used = torch.rand(len(drawn), generator=rng), near[drawn], 0
        while len(chosen) < k:
            kept = used + (coins[used:] * then[used:] <= near[drawn[used:]]).nonzero()[:trials, 0]
            if len(kept) < trials:
                break
            distances = apart.index_select(0, kept).add_(own[kept]).clamp_(min=0)
            tried = torch.minimum(distances, near, out=distances)
            best = int(tried.sum(dim=1).argmin())
            chosen.append(int(drawn[kept[best]]))
            near, used = tried[best], int(kept[-1]) + 1
    return torch.tensor(chosen)


def draw(weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Indices int64 (count,), each drawn in proportion to `weights` (N,)."""
    sums = weights.double().cumsum(dim=0)
    at = sums[-1] * torch.rand(count, generator=rng, dtype=torch.float64)
    return torch.searchsorted(sums, at, right=True).clamp_(max=len(weights) - 1)


def means(x: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """The mean of each cluster, (K, D); an empty one gets the point farthest from its centre."""
    sums = torch.zeros_like(centres).index_add_(0, labels, x)
    counts = torch.bincount(labels, minlength=len(centres))
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty):
        far = (x - centres[labels]).square().sum(dim=1).topk(len(empty)).indices
        sums.index_add_(0, labels[far], x[far], alpha=-1)
        counts.index_add_(0, labels[far], torch.ones_like(far), alpha=-1)
        sums[empty], counts[empty] = x[far], 1
    return sums / counts.clamp(min=1)[:, None]


@dataclass(frozen=True)
class Points:
    """Points (N, D) that ask for their nearest centres.

    rough: the same in bf16, None where float32 is faster; size, lost: the norm of each point, and
    of what rounding it lost, (N,).
    """

    x: Tensor
    rough: Tensor | None
    size: Tensor
    lost: Tensor

    @classmethod
    def of(cls, x: Tensor, k: int) -> Points:
        """Points that are to be compared with k centres."""
        rough = x.bfloat16()
        size, lost = x.norm(dim=1), (x - rough.float()).norm(dim=1)
        pays = k * x.shape[1] >= ROUGH and use_bf16("auto", x.device)
        return cls(x, rough if pays else None, size, lost)

    def nearest(self, centres: Tensor) -> Tensor:
        """Index of the nearest centre c, int64 (N,): x c - |c|^2 / 2 is the largest."""
        half = -0.5 * centres.square().sum(dim=1)
        if self.rough is None:
            return closest(self.x, centres, half)
        labels, sure = self._roughly(self.rough, centres, half)
        unsure = (~sure).nonzero()[:, 0]
        labels[unsure] = closest(self.x[unsure], centres, half)
        return labels

    def _roughly(self, rough: Tensor, centres: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest centres by products in bf16, and which are so for sure: bool (N,).

        They are where the second is further behind than both can be wrong. Rounding x and c before
        they are multiplied costs |x - x'| |c| + |x| |c - c'| at most, that of |c|^2 / 2 what it
        costs, adding D terms in float32 D 2^-23 |x| |c|, and rounding the sum 2^-8 of it.
        """
        few, bias = centres.bfloat16(), half.bfloat16()
        found = [linear(part, few, bias).topk(2, dim=1) for part in rough.split(ROWS)]
        best, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        size, cut = centres.norm(dim=1).max(), (centres - few.float()).norm(dim=1).max()
        adding = centres.shape[1] * 2.0**-22 * size  # twice: the norms are rounded, too
        error = self.lost * (size + cut) + self.size * (cut + adding)
        error = error + (half - bias.float()).abs().max()
        best = best.float()
        sure = best[:, 0] - best[:, 1] > 2 * error + 2.0**-8 * best.abs().sum(dim=1)
        return index[:, 0].contiguous(), sure


def closest(x: Tensor, centres: Tensor, half: Tensor) -> Tensor:
    """Index of the nearest centre, int64 (N,), in float32."""
    return torch.cat([linear(part, centres, half).argmax(dim=1) for part in x.split(ROWS)])
