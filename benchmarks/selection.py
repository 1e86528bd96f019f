"""Choices made on held-out training labels, beside those that the papers make on the judged split.

A candidate (a learning rate, a k, an epoch) that is chosen on the judged split has been fitted to
it, so its accuracy there is too high. The second choice never looks at the judged split: candidates
learn from the training images without those held out and are scored on the latter; the winner's
accuracy is read off the judged split as it is after learning from all training images. How much
higher the first accuracy is, in percentage points, is the metric "optimism" of the second choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sslbench.benchmark import Benchmark, Context, Features, Splits
from sslbench.benchmarks.blanks import blanks
from sslbench.benchmarks.topk import count_hits, hit_results
from sslbench.data.subsets import find_list, held_out, listed
from sslbench.result import Result

if TYPE_CHECKING:
    from torch import Tensor

CHOSEN = "chosen on held-out labels"  # end of the settings of the second choice
OPTIMISM = "optimism"
SHARE = 0.1  # of every class's training images
Hits = Mapping[float, tuple[int, int]]  # value -> top-1 and top-5 hits with it


def too_few(data: Splits, share: float) -> str:
    """Why `share` of the labels cannot be learnt from; "" where it can.

    Raises UserError for a list of the dataset's own that does not fit.
    """
    images, labels = len(data.train), data.train.labels
    if labels is None:
        return ""
    if path := find_list(data.train, share):
        return other_share(len(listed(path, data.train)), share, images)
    if share * images >= len(set(labels.tolist())):
        return ""
    return f"{share:.0%} of {images} images is less than one image per class."


def other_share(count: int, share: float, images: int) -> str:
    """Why a dataset's own list of `count` images is not `share` of all; "" where it is."""
    wanted = max(1.0, share * images)
    if wanted / 2 <= count <= 2 * wanted:
        return ""
    return (
        f"the dataset's own list for {share:.0%} holds {count} of {images} images, "
        f"{count / images:.1%} of them."
    )


def unfit(labels: np.ndarray, share: float) -> str:
    """Return why no images can be held out of these labels, "" if they can."""
    _, counts = np.unique(labels, return_counts=True)
    if single := int((counts == 1).sum()):
        return (
            f"{single} of {len(counts)} classes have one training image only, so that none of "
            "theirs can be held out."
        )
    return "" if len(held_out(labels, share)[1]) else "No training images are held out."


def divided(features: Features, share: float) -> tuple[Features, Features]:
    """Return the features of the images that are kept and of those held out."""
    import torch

    kept, held = held_out(features.y.numpy(), share)
    return take(features, torch.from_numpy(kept)), take(features, torch.from_numpy(held))


def take(features: Features, index: Tensor) -> Features:
    """Return the rows named by `index`."""
    return Features(features.x[index], features.y[index])


def hits_of(ranks: Mapping[float, Tensor], y: Tensor) -> dict[float, tuple[int, int]]:
    """Return the hits with every value. ranks: value -> best classes (N, <= 5); y: (N,)."""
    return {value: count_hits(found.cpu(), y) for value, found in ranks.items()}


def best_of(hits: Hits) -> float:
    """Return the value with the most top-1 hits, the smallest of equals."""
    return max(sorted(hits), key=lambda value: hits[value][0])


def value_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    setting: str,
    metric: str,
    on_test: Hits,
    on_held_out: Hits,
    n: int,
) -> list[Result]:
    """Record the value of `metric`, e.g. "k", that is best on held-out labels.

    on_test: hits on the n judged images.
    """
    value, best = best_of(on_held_out), on_test[best_of(on_test)][0]
    hits, chosen = on_test[value], {metric: value}
    return chosen_results(benchmark, data, context, setting, hits, n, best, chosen)


def chosen_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    setting: str,
    hits: tuple[int, int],
    n: int,
    best: int,
    chosen: Mapping[str, float],
) -> list[Result]:
    """Record the candidate that was chosen on held-out labels: accuracies, values, optimism.

    hits: its top-1 and top-5 hits on the n judged images; best: top-1 hits of the candidate that
    was chosen on these; chosen: metric -> value, e.g. its learning rate.
    """
    values = {**chosen, OPTIMISM: 100 * (best - hits[0]) / n}
    return [
        *hit_results(benchmark, data, context, setting, hits, n),
        *(context.result(benchmark, data, setting, k, v, n) for k, v in values.items()),
    ]


def no_choice(
    benchmark: Benchmark, data: Splits, context: Context, setting: str, reason: str
) -> list[Result]:
    """Record why nothing was chosen on held-out labels."""
    return blanks(benchmark, data, context, [setting], reason, ("top1", OPTIMISM))
