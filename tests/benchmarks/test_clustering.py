from itertools import permutations

import numpy as np
import pytest
import sklearn.metrics as peer
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


@settings(max_examples=150, deadline=None)
@given(labelings)
def test_equals_scikit_learn(labels):
    classes, clusters = np.array(labels[0]), np.array(labels[1])
    table = partitions.contingency(classes, clusters)
    assert partitions.adjusted_rand(table) == pytest.approx(
        peer.adjusted_rand_score(classes, clusters)
    )
    assert partitions.mutual_information(table) == pytest.approx(
        peer.normalized_mutual_info_score(classes, clusters), abs=1e-9
    )
    assert partitions.fowlkes_mallows(table) == pytest.approx(
        peer.fowlkes_mallows_score(classes, clusters)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=15),
    st.booleans(),
)
def test_accuracy_equals_brute_force(pairs, swap):
    classes, clusters = np.array(pairs).T[:: -1 if swap else 1]
    table = np.zeros((5, 5), dtype=int)
    np.add.at(table, (classes, clusters), 1)
    best = max(table[range(5), list(p)].sum() for p in permutations(range(5)))
    found = partitions.accuracy(partitions.contingency(classes, clusters))
    assert found == pytest.approx(best / len(pairs))


def test_large_sets_do_not_overflow():
    table = np.array([[3_000_000, 1], [1, 3_000_000]])
    assert partitions.adjusted_rand(table) == pytest.approx(1, abs=1e-5)


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
