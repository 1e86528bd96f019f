import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from sklearn.cluster import KMeans, kmeans_plusplus

from sslbench.benchmarks import kmeans as module
from sslbench.benchmarks.kmeans import Points, draw, kmeans, lloyd, means, start
from sslbench.errors import UserError
from tests.benchmarks.fakes import blobs


@pytest.fixture(params=["bf16", "float32"])
def precision(request, monkeypatch):
    monkeypatch.setattr(module, "use_bf16", lambda *_: request.param == "bf16")
    monkeypatch.setattr(module, "ROUGH", 1)
    monkeypatch.setattr(module, "ROWS", 100)


def centred(n: int, classes: int, dim: int, spread: float) -> torch.Tensor:
    x = blobs(n, classes, dim, 1, spread).x
    return x - x.mean(dim=0)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inertia(x: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    centres = means(x, labels, torch.zeros(k, x.shape[1]))
    return float((x - centres[labels]).double().square().sum())


@pytest.mark.parametrize(("spread", "iterations"), [(0.3, 50), (2.0, 50), (2.0, 3)])
def test_equals_scikit_learn_from_the_same_centres(precision, spread, iterations):
    x = centred(900, 12, 24, spread)
    centres = x[torch.randperm(900, generator=rng(2))[:15]]
    peer = KMeans(15, init=centres.numpy(), n_init=1, max_iter=iterations).fit(x.numpy())
    assert lloyd(x, centres, iterations).tolist() == peer.labels_.tolist()


def test_an_empty_cluster_gets_the_farthest_point_as_in_scikit_learn(precision):
    x = centred(200, 4, 6, 0.5)
    centres = torch.cat([x[:3], torch.full((2, 6), 100.0) + torch.arange(2)[:, None]])
    peer = KMeans(5, init=centres.numpy(), n_init=1, max_iter=20).fit(x.numpy())
    found = lloyd(x, centres, 20)
    assert found.tolist() == peer.labels_.tolist() and len(found.unique()) == 5


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_the_nearest_is_that_of_float64(precision, offset):
    x, centres = centred(700, 5, 40, 1.0) + offset, centred(60, 5, 40, 1.0) + offset
    apart = torch.cdist(x.double(), centres.double(), compute_mode="donot_use_mm_for_euclid_dist")
    found = apart.gather(1, Points.of(x, 60).nearest(centres)[:, None])[:, 0]
    torch.testing.assert_close(found, apart.min(dim=1).values, atol=2e-5 * (1 + offset), rtol=0)


def test_points_are_drawn_in_proportion_to_their_weights():
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0, 6.0, 0.0])
    counts = torch.bincount(draw(weights, 20_000, rng(0)), minlength=6)
    assert counts[weights == 0].sum() == 0
    assert chisquare(counts[[1, 2, 4]], [2000, 6000, 12000]).pvalue > 1e-3


@pytest.mark.parametrize("refreshed", [1, 8])
def test_the_start_has_the_law_of_greedy_k_means_plus_plus(monkeypatch, refreshed):
    """Of scikit-learn's: how often each of few points is a centre, and the inertia of the start."""
    monkeypatch.setattr(module, "REFRESHED", refreshed)
    x, k = centred(12, 3, 2, 1.0), 6
    ours = [start(x, k, rng(i)) for i in range(2000)]
    theirs = [kmeans_plusplus(x.numpy(), k, random_state=i)[1] for i in range(2000)]
    table = np.array([np.bincount(np.concatenate(s), minlength=12) for s in (ours, theirs)])
    # within one start the counts exclude each other, so that chi-square is careful here
    assert chi2_contingency(table).pvalue > 1e-3
    left = [np.mean([start_inertia(x, s) for s in found]) for found in (ours, theirs)]
    assert left[0] == pytest.approx(left[1], rel=0.03)


def start_inertia(x: torch.Tensor, chosen) -> float:
    return float(torch.cdist(x, x[torch.as_tensor(chosen)]).min(dim=1).values.square().sum())


def test_the_end_is_as_good_as_scikit_learn_s():
    x, k = centred(3000, 30, 16, 1.5), 40
    ours = [inertia(x, kmeans(x, k, 100, seed), k) for seed in range(6)]
    peers = [KMeans(k, n_init=1, max_iter=100, random_state=s).fit(x.numpy()) for s in range(6)]
    theirs = [peer.inertia_ for peer in peers]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.01)


def test_more_clusters_than_different_points_end():
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(10, 1)
    labels = kmeans(x, 4, 10, 0)
    assert len({(tuple(p), int(c)) for p, c in zip(x.tolist(), labels, strict=True)}) >= 2
    assert kmeans(x[:1], 1, 10, 0).tolist() == [0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e25])
def test_features_that_are_not_finite_are_refused(value):
    x = torch.randn(200, 8)
    x[3, 2] = value
    with pytest.raises(UserError, match="NaN, infinite or far too large values"):
        kmeans(x, 5, 50, 3)
