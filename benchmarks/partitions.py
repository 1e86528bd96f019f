"""Agreement of two partitions of the same items, classes and clusters, in percent.

ARI (Hubert & Arabie 1985), NMI (over the arithmetic mean of the entropies) and FMI (Fowlkes &
Mallows 1983) are scikit-learn's; ACC needs the Hungarian matching, which is scipy's.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import (
    adjusted_rand_score,
    fowlkes_mallows_score,
    normalized_mutual_info_score,
)
from sklearn.metrics.cluster import contingency_matrix


def scores(classes: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """ACC, ARI, NMI and FMI in percent.

    classes, clusters: integers (n,), n > 0; the two may have different numbers of values.
    """
    figures = {
        "ACC": accuracy(classes, clusters),
        "ARI": adjusted_rand_score(classes, clusters),
        "NMI": normalized_mutual_info_score(classes, clusters, average_method="arithmetic"),
        "FMI": fowlkes_mallows_score(classes, clusters),
    }
    return {metric: 100 * float(value) for metric, value in figures.items()}


def accuracy(classes: np.ndarray, clusters: np.ndarray) -> float:
    """Return the share of hits under the best one-to-one matching of clusters and classes.

    With more clusters than classes the items of unmatched clusters count as errors.
    """
    table = contingency_matrix(classes, clusters)  # int64 (classes, clusters)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())
