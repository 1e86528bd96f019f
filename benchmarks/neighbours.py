"""The k nearest rows of a bank by dot product: exact, and faster than ranking every similarity.

Most of the time goes into the products. A CPU that multiplies bf16 makes rough ones, and what may
be among the k nearest, given the largest error of a rough product, is computed again in float32:
rounding chooses a shortlist, never a neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sslbench.system.products import linear
from sslbench.training.precision import use_bf16

SIMILARITIES = 2**26  # held at once (256 MiB): bounds the memory, not the result
QUERIES = 1024  # asked at once, at most
ROWS = 4096  # of the bank, multiplied at once: a CPU's cache holds them
BLOCK = 64  # similarities that are passed over together where their largest is too small
LISTED = 2  # length of a shortlist, in k
LEAST = 128  # a shortlist pays from this many rows for each neighbour on


@dataclass(frozen=True)
class Bank:
    """Rows to be found, float32 (N, D).

    rough: the rows less their mean, which changes no order, in bf16; None where float32 is faster.
    size, error: the largest norm of such a row, and the largest norm of what rounding one lost.
    """

    rows: Tensor
    rough: Tensor | None = None
    size: float = 0.0
    error: float = 0.0

    @classmethod
    def of(cls, rows: Tensor, k: int) -> Bank:
        """A bank that is to be asked for k neighbours."""
        if rows.is_cuda or len(rows) < LEAST * k or not use_bf16("auto", rows.device):
            return cls(rows)
        rough, mean = torch.empty_like(rows, dtype=torch.bfloat16), rows.mean(dim=0)
        size = error = 0.0
        for part, rounded in zip(rows.split(ROWS), rough.split(ROWS), strict=True):
            centred = part - mean
            rounded.copy_(centred)
            size = max(size, float(centred.norm(dim=1).max()))
            error = max(error, float((centred - rounded.float()).norm(dim=1).max()))
        return cls(rows, rough, size, error)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The similarities of the k nearest rows, falling, and their indices, each (Q, k).

        queries: float32 (Q, D); k: at most N.
        """
        width = -(-len(self.rows) // BLOCK) * BLOCK
        count = max(1, min(QUERIES, len(queries), SIMILARITIES // width))
        kind = queries if self.rough is None else self.rough
        space = kind.new_full((count, width), -torch.inf)
        search = self._search if self.rough is None else self._search_shortlist
        found = [search(some, k, space[: len(some)]) for some in queries.split(count)]
        similarity, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        return similarity, index

    def _search(self, queries: Tensor, k: int, space: Tensor) -> tuple[Tensor, Tensor]:
        multiply(queries, self.rows, space)
        return largest(space, k)

    def _search_shortlist(self, queries: Tensor, k: int, space: Tensor) -> tuple[Tensor, Tensor]:
        index, sure = self._shortlist(queries, k, space)
        listed = queries.new_empty(index.shape)
        for query, candidates, out in zip(queries, index, listed, strict=True):
            torch.mv(self.rows.index_select(0, candidates), query, out=out)
        similarity, order = listed.topk(k, dim=1)
        index = index.gather(1, order)
        if not sure.all():
            unsure = queries[~sure]
            exact = unsure.new_full((len(unsure), space.shape[1]), -torch.inf)
            similarity[~sure], index[~sure] = self._search(unsure, k, exact)
        return similarity, index

    def _shortlist(self, queries: Tensor, k: int, space: Tensor) -> tuple[Tensor, Tensor]:
        """Indices (Q, L), and whether the k nearest are among them for sure, (Q,).

        They are where the last of the list is further below the k-th than both can be wrong.
        Rounding q and x before they are multiplied costs |q - q'| |x| + |q| |x - x'| at most,
        adding D terms in float32 D 2^-23 |q| |x|, and rounding the sum 2^-8 of it.
        """
        assert self.rough is not None, "asked for only where there is a rough bank"
        rounded = queries.bfloat16()
        multiply(rounded, self.rough, space)
        found, index = largest(space, LISTED * k)
        norm, lost = queries.norm(dim=1), (queries - rounded.float()).norm(dim=1)
        adding = queries.shape[1] * 2.0**-22 * self.size  # twice: the norms are rounded, too
        error = lost * self.size + norm * (self.error + adding)
        kth, last = found[:, k - 1].float(), found[:, -1].float()
        return index, kth - last > 2 * error + 2.0**-8 * (kth.abs() + last.abs())


def multiply(queries: Tensor, rows: Tensor, out: Tensor) -> None:
    """Write `queries @ rows.T` to the first columns of `out`, on CPUs piece by piece."""
    step = len(rows) if rows.is_cuda else ROWS
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        out[:, start : start + len(part)] = linear(queries, part)


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `values.topk(k, dim=1)`, (Q, N) -> (Q, k) each; N is a multiple of BLOCK.

    The k largest are looked for in the k blocks whose own largest are the largest. Of equal values
    any may be chosen.
    """
    count, blocks = len(values), values.shape[1] // BLOCK
    if blocks < 4 * k:
        found, index = values.topk(k, dim=1)
        return found, index
    tops = values.unflatten(1, (blocks, BLOCK)).amax(dim=2).topk(k, dim=1, sorted=False).indices
    rows = tops + blocks * torch.arange(count, device=values.device)[:, None]
    kept = values.view(count * blocks, BLOCK).index_select(0, rows.flatten())
    found, index = kept.view(count, k * BLOCK).topk(k, dim=1)
    return found, tops.gather(1, index // BLOCK) * BLOCK + index % BLOCK
