"""Blanks: records that say why a set is too small for a number, where one would mean nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sslbench.benchmark import Benchmark, Context, Splits
from sslbench.result import Result


def one_class(data: Splits) -> str:
    """Why accuracies of `data` say nothing; "" where they do."""
    if len(data.classes) > 1:
        return ""
    return f"{data.name} has one class, so that every answer is right."


def blanks(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    settings: Iterable[str],
    reason: str,
    metrics: Iterable[str] = ("top1",),
) -> list[Result]:
    """A record without a number for each of `settings` and `metrics`."""
    metrics, n = tuple(metrics), len(data.test)
    return [
        context.result(benchmark, data, setting, metric, math.nan, n, missing=reason)
        for setting in settings
        for metric in metrics
    ]
