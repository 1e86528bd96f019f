"""Agreement of two partitions: ACC, ARI, NMI and FMI from one contingency table.

A table is int64 (classes, clusters): how many items of class i fell into cluster j.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linear_sum_assignment


def contingency(classes: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The table of two labelings of the same n > 0 items; empty classes and clusters are left out.

    classes, clusters: integers (n,); the two may have different numbers of values.
    """
    rows, i = np.unique(classes, return_inverse=True)
    columns, j = np.unique(clusters, return_inverse=True)
    flat = np.bincount(i * len(columns) + j, minlength=len(rows) * len(columns))
    return flat.reshape(len(rows), len(columns)).astype(np.int64)


def scores(classes: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """All four figures in percent."""
    table = contingency(classes, clusters)
    figures = {"ACC": accuracy, "ARI": adjusted_rand, "NMI": mutual_information}
    return {k: 100 * f(table) for k, f in {**figures, "FMI": fowlkes_mallows}.items()}


def accuracy(table: np.ndarray) -> float:
    """Share of hits under the best one-to-one matching of clusters and classes (Hungarian).

    With more clusters than classes the items of unmatched clusters count as errors.
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def adjusted_rand(table: np.ndarray) -> float:
    """Adjusted Rand index (Hubert & Arabie 1985); 1 = equal, about 0 = by chance."""
    n, together, same_class, same_cluster = _pairs(table)
    a_only, b_only = same_class - together, same_cluster - together
    if a_only == b_only == 0:
        return 1.0
    apart = n * (n - 1) - together - a_only - b_only
    gain = 2 * (together * apart - a_only * b_only)
    return gain / (same_class * (a_only + apart) + same_cluster * (b_only + apart))


def fowlkes_mallows(table: np.ndarray) -> float:
    """Geometric mean of the pairs' precision and recall (Fowlkes & Mallows 1983)."""
    _, together, same_class, same_cluster = _pairs(table)
    if together == 0:
        return 0.0
    return math.sqrt(together / same_class) * math.sqrt(together / same_cluster)


def mutual_information(table: np.ndarray) -> float:
    """Mutual information over the arithmetic mean of the entropies (NMI)."""
    joint = table / table.sum()
    a, b = joint.sum(axis=1), joint.sum(axis=0)
    if len(a) == len(b) == 1:
        return 1.0
    i, j = np.nonzero(joint)
    shared = float((joint[i, j] * np.log(joint[i, j] / (a[i] * b[j]))).sum())
    entropies = -float((a * np.log(a)).sum()) - float((b * np.log(b)).sum())
    return max(0.0, shared) / (entropies / 2)


def _pairs(table: np.ndarray) -> tuple[int, int, int, int]:
    """n, and ordered pairs together in both, of one class, of one cluster: exact integers."""
    n = int(table.sum())
    squares = (table**2, table.sum(axis=1) ** 2, table.sum(axis=0) ** 2)
    together, same_class, same_cluster = (int(s.sum()) - n for s in squares)
    return n, together, same_class, same_cluster
