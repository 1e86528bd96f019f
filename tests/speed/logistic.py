"""Logistic regression on 1 % of ImageNet's labels, three strengths, against scikit-learn."""

from __future__ import annotations

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from sslbench.benchmark import Features
from sslbench.benchmarks.logistic import fit_logistic
from tests.speed.neighbours import CLASSES, normalised
from tests.speed.race import Race

IMAGES, STRENGTHS = 13_000, (1.0, 0.1, 0.01)


def race() -> Race:
    data = normalised(IMAGES, 3)
    worst = max(
        abs(loss(data, a, s) / loss(data, b, s) - 1)
        for s, a, b in zip(STRENGTHS, ours(data), theirs(data), strict=True)
    )
    if worst > 1e-6:
        raise ValueError(f"an objective differs by {worst:.1e} of it")
    return Race(
        "logistic",
        f"logistic regression of {IMAGES:,} features of {data.x.shape[1]} numbers, {CLASSES:,} "
        f"classes, lambda = {STRENGTHS}",
        lambda: ours(data),
        {"scikit-learn": lambda: theirs(data)},
        {"scikit-learn": 1.2},
        "fits",
        len(STRENGTHS),
        f"the objective, to {worst:.0e} of it",
    )


def loss(data: Features, weight: Tensor, strength: float) -> float:
    """The objective in float64. weight: (D, classes)."""
    weight = weight.double()
    data_term = cross_entropy(data.x.double() @ weight, data.y)
    return float(data_term + 0.5 * strength * weight.square().sum())


def ours(data: Features) -> list[Tensor]:
    """As the benchmark does it: from strong to weak, each from the last."""
    found: list[Tensor] = []
    for strength in STRENGTHS:
        start = found[-1] if found else None
        found.append(fit_logistic(data.x, data.y, CLASSES, strength, start))
    return found


def theirs(data: Features) -> list[Tensor]:
    """tol: a looser one stops far from the minimum."""
    x, y = data.x.numpy(), data.y.numpy()
    fits = [
        LogisticRegression(C=1 / (s * len(x)), fit_intercept=False, tol=1e-5, max_iter=500)
        for s in STRENGTHS
    ]
    return [torch.from_numpy(fit.fit(x, y).coef_.T) for fit in fits]
