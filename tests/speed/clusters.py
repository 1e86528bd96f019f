"""K-means of 50,000 features with K = 1,000, against faiss and scikit-learn."""

from __future__ import annotations

import faiss
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from sslbench.benchmarks.kmeans import kmeans, means
from tests.speed.neighbours import WIDTH, normalised
from tests.speed.race import Race

POINTS, CLUSTERS, STEPS = 50_000, 1000, 25
WORK = f"k-means of {POINTS:,} features of {WIDTH} numbers, K = {CLUSTERS:,}"


def against_faiss() -> Race:
    """faiss starts from random points; ours stops when its inertia is at most faiss's."""
    x = normalised(POINTS, 2).x
    wanted = inertia(x, by_faiss(x))
    steps = next(n for n in range(1, STEPS) if inertia(x, kmeans(x, CLUSTERS, n, 0)) <= wanted)
    return Race(
        "k-means",
        f"{WORK}, to equal inertia",
        lambda: kmeans(x, CLUSTERS, steps, 0),
        {"faiss": lambda: by_faiss(x)},
        {"faiss": 1.3},
        "points",
        POINTS,
        f"an inertia of at most {wanted:.0f}: in {steps} steps from k-means++, {STEPS} from random",
    )


def against_scikit_learn() -> Race:
    """The same start, steps and end."""
    x = normalised(POINTS, 2).x
    ours, theirs = (inertia(x, found) for found in (kmeans(x, CLUSTERS, STEPS, 0), by_sklearn(x)))
    if abs(ours - theirs) > 1e-3 * theirs:
        raise ValueError(f"inertia {ours} is not {theirs}")
    return Race(
        "k-means++",
        f"{WORK}, {STEPS} steps from k-means++",
        lambda: kmeans(x, CLUSTERS, STEPS, 0),
        {"scikit-learn": lambda: by_sklearn(x)},
        {"scikit-learn": 1.3},
        "points",
        POINTS,
        f"inertia {ours:.0f} and {theirs:.0f}",
    )


def inertia(x: Tensor, labels: Tensor) -> float:
    """Sum of the squared distances of the points from the means of their clusters."""
    centres = means(x, labels, torch.zeros(CLUSTERS, WIDTH))
    return float((x - centres[labels]).double().square().sum())


def by_faiss(x: Tensor) -> Tensor:
    found = faiss.Kmeans(WIDTH, CLUSTERS, niter=STEPS, seed=1, max_points_per_centroid=POINTS)
    found.train(x.numpy())
    return torch.from_numpy(found.index.search(x.numpy(), 1)[1][:, 0])


def by_sklearn(x: Tensor) -> Tensor:
    found = KMeans(CLUSTERS, n_init=1, max_iter=STEPS, random_state=0).fit(x.numpy())
    return torch.from_numpy(found.labels_).long()
