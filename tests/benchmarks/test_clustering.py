from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sslbench.benchmarks import partitions
from sslbench.benchmarks.clustering import Clustering, ClusteringProtocol
from tests.benchmarks.fakes import FakeContext, blobs, figures, splits

labelings = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 5), min_size=n, max_size=n),
        st.lists(st.integers(-3, 12), min_size=n, max_size=n),
    )
)


@settings(max_examples=150)
@given(labelings)
def test_equals_the_formulas(labels):
    """ARI and FMI by counting pairs of items one by one, NMI from the entropies, in float64."""
    classes, clusters = np.array(labels[0]), np.array(labels[1])
    found = partitions.scores(classes, clusters)
    assert found["ARI"] == pytest.approx(100 * adjusted_rand(classes, clusters), abs=1e-9)
    assert found["FMI"] == pytest.approx(100 * fowlkes_mallows(classes, clusters), abs=1e-9)
    assert found["NMI"] == pytest.approx(100 * mutual_information(classes, clusters), abs=1e-9)


def pairs_together(classes, clusters):
    """Ordered pairs of different items: in both, of one class, of one cluster, all of them."""
    n = len(classes)
    same_class = (classes[:, None] == classes) & ~np.eye(n, dtype=bool)
    same_cluster = (clusters[:, None] == clusters) & ~np.eye(n, dtype=bool)
    both = same_class & same_cluster
    return int(both.sum()), int(same_class.sum()), int(same_cluster.sum()), n * (n - 1)


def adjusted_rand(classes, clusters):
    both, a, b, pairs = pairs_together(classes, clusters)
    if both == a == b:
        return 1.0
    by_chance = a * b / pairs
    return (both - by_chance) / ((a + b) / 2 - by_chance)


def fowlkes_mallows(classes, clusters):
    both, a, b, _ = pairs_together(classes, clusters)
    return both / np.sqrt(a * b) if both else 0.0


def mutual_information(classes, clusters):
    def entropy(labels):
        p = np.unique(labels, return_counts=True, axis=-1)[1] / len(classes)
        return float(-(p * np.log(p)).sum())

    a, b = entropy(classes), entropy(clusters)
    if a == b == 0:
        return 1.0
    return (a + b - entropy(np.stack([classes, clusters]))) / ((a + b) / 2)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=15),
    st.booleans(),
)
def test_accuracy_equals_brute_force(pairs, swap):
    classes, clusters = np.array(pairs).T[:: -1 if swap else 1]
    table = np.zeros((5, 5), dtype=int)
    np.add.at(table, (classes, clusters), 1)
    best = max(table[range(5), list(p)].sum() for p in permutations(range(5)))
    found = partitions.accuracy(classes, clusters)
    assert found == pytest.approx(best / len(pairs))


def test_large_sets_do_not_overflow():
    classes = np.repeat([0, 0, 1, 1], [300_000, 1, 1, 300_000])
    clusters = np.repeat([0, 1, 0, 1], [300_000, 1, 1, 300_000])
    found = partitions.scores(classes, clusters)
    assert all(found[m] == pytest.approx(100, abs=1e-2) for m in ("ACC", "ARI", "NMI", "FMI"))


def test_k_means_finds_clear_clusters_and_says_how_sure_it_is():
    context = FakeContext(blobs(5, 4, 16, 1), blobs(200, 4, 16, 2, 0.1))
    found = figures(Clustering().run(None, splits(4), context))
    metrics = {"ACC", "ARI", "NMI", "FMI"}
    assert set(found) == {(s, m) for s in ("k-means", "k-means, sd of 5 starts") for m in metrics}
    assert found["k-means", "ACC"] == pytest.approx(100)
    assert found["k-means, sd of 5 starts", "ACC"] == pytest.approx(0)


def test_the_head_is_a_group_of_its_own_and_judged_once():
    context = FakeContext(blobs(5, 3, 6, 1), blobs(50, 3, 6, 2), head=nn.Linear(6, 9))
    found = figures(Clustering().run(None, splits(3), context))
    assert {m for s, m in found if s == "argmax of 9-d head"} == {"ACC", "ARI", "NMI", "FMI"}
    other = Clustering(ClusteringProtocol(pool="mean")).run(None, splits(3), context)
    assert not [r for r in other if "head" in r.setting]


def test_equal_seeds_give_equal_records():
    context = FakeContext(blobs(5, 6, 8, 1), blobs(120, 6, 8, 2, 2.0))
    assert figures(Clustering().run(None, splits(6), context)) == figures(
        Clustering().run(None, splits(6), context)
    )


def test_p21_any_seed_starts_k_means():
    context = FakeContext(blobs(5, 6, 8, 1), blobs(120, 6, 8, 2, 0.1))
    for context.seed in (2**32 - 2, 202611251333, 2**70):  # scikit-learn takes 32 bits
        assert figures(Clustering().run(None, splits(6), context))["k-means", "NMI"] > 50
