"""Top-1 and top-5 accuracy of ranked predictions, shared by the classification benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sslbench.benchmark import Benchmark, Context, Splits
from sslbench.result import Result

if TYPE_CHECKING:
    from torch import Tensor

TOP = 5  # deepest rank reported
LEAST_CLASSES = 50  # top-5 says little below this number of classes


def ranked(scores: Tensor) -> Tensor:
    """The best classes of each row, best first: (N, C) scores -> int64 (N, min(5, C))."""
    return scores.topk(min(TOP, scores.shape[1]), dim=1).indices


def accuracy_results(
    benchmark: Benchmark, data: Splits, context: Context, setting: str, ranks: Tensor, y: Tensor
) -> list[Result]:
    """Records "top1" and, from 50 classes on, "top5" in percent. ranks: (N, <= 5), y: (N,)."""
    return hit_results(benchmark, data, context, setting, count_hits(ranks.cpu(), y), len(y))


def count_hits(ranks: Tensor, y: Tensor) -> tuple[int, int]:
    """How many labels are the first, and one of the first five, of `ranks` (N, <= 5)."""
    hits = ranks == y[:, None]
    return int(hits[:, 0].sum()), int(hits.any(dim=1).sum())


def hit_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    setting: str,
    hits: tuple[int, int],
    n: int,
) -> list[Result]:
    """As `accuracy_results`, from the (top-1, top-5) hits on n images."""
    metrics = ("top1", "top5") if len(data.classes) >= LEAST_CLASSES else ("top1",)
    return [
        context.result(benchmark, data, setting, metric, 100 * count / n, n)
        for metric, count in zip(metrics, hits, strict=False)
    ]
