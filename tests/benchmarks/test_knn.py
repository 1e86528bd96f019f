import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize

from sslbench.benchmark import Features
from sslbench.benchmarks import neighbours
from sslbench.benchmarks.knn import KNN, KNNProtocol, nearest_votes
from tests.benchmarks.fakes import FakeContext, blobs, figures, splits

CPU = torch.device("cpu")


@pytest.mark.parametrize("chunk_budget", [2**26, 2000])
def test_equals_scikit_learn(monkeypatch, chunk_budget):
    monkeypatch.setattr(neighbours, "SIMILARITIES", chunk_budget)
    bank, test = blobs(300, 12, 16, seed=1, spread=2.0), blobs(90, 12, 16, seed=2, spread=2.0)
    ours = nearest_votes(bank, test, 12, (200, 10, 1), 0.07, CPU)
    x, q = normalize(bank.x.double()).numpy(), normalize(test.x.double()).numpy()
    for k in (1, 10, 200):
        # on the unit sphere |a - b|^2 = 2 - 2 cos
        peer = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d**2 / 2) / 0.07))
        probability = peer.fit(x, bank.y.numpy()).predict_proba(q)
        assert (ours[k][:, 0].numpy() == probability.argmax(1)).all()
        asked = torch.from_numpy(-np.sort(-probability, 1)[:, :5])
        got = torch.from_numpy(probability).gather(1, ours[k].clamp(min=0))
        torch.testing.assert_close(got.where(ours[k] >= 0, 0), asked, atol=1e-5, rtol=0)


def test_a_class_without_votes_is_no_prediction():
    bank = Features(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([2, 0]))
    test = Features(torch.tensor([[1.0, 0.1]]), torch.tensor([2]))
    ranks = nearest_votes(bank, test, 4, (1,), 0.07, CPU)[1]
    assert ranks.tolist() == [[2, -1, -1, -1]]


def test_records_every_k_that_fits_and_no_other():
    context = FakeContext(blobs(60, 50, 8, 1), blobs(50, 50, 8, 2))
    records = KNN().run(None, splits(50), context)
    found = figures([r for r in records if not r.missing and r.setting.startswith("k=")])
    assert set(found) == {(f"k={k}", m) for k in (10, 20) for m in ("top1", "top5")}
    assert all(found[k, "top1"] <= found[k, "top5"] for k in ("k=10", "k=20"))
    assert ("k=20", "top1") in KNN.main


def test_top5_is_left_out_below_fifty_classes():
    context = FakeContext(blobs(60, 4, 8, 1), blobs(40, 4, 8, 2))
    found = figures(KNN().run(None, splits(4), context))
    assert {m for setting, m in found if setting.startswith("k=")} == {"top1"}
    assert not any(m == "top5" for _, m in found)


def test_a_k_larger_than_the_bank_is_a_blank_with_a_reason():
    context = FakeContext(blobs(9, 2, 4, 1), blobs(5, 2, 4, 2))
    found = KNN().run(None, splits(2), context)
    settings = ["k=10", "k=20", "k=100", "k=200", "best k", *["k chosen on held-out labels"] * 2]
    assert sorted(r.setting for r in found) == sorted(settings)
    assert {r.missing for r in found} == {"The bank has 9 images, fewer than k."}
    assert all(math.isnan(r.value) for r in found)
    number = KNN(KNNProtocol(k=(3,))).run(None, splits(2), context)[0]
    assert number.setting == "k=3" and number.value >= 0 and not number.missing
