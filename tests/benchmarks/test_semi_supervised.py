import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import normalize

from sslbench.benchmark import Features
from sslbench.benchmarks import logistic
from sslbench.benchmarks.linear import Probe
from sslbench.benchmarks.logistic import fit_logistic
from sslbench.benchmarks.selection import CHOSEN
from sslbench.benchmarks.semi_supervised import (
    SemiSupervised,
    SemiSupervisedProtocol,
    dishonest,
    stratified,
)
from tests.benchmarks.fakes import FakeContext, blobs, figures, splits


@pytest.mark.parametrize("strength", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("chunk", [2**23, 200])
def test_logistic_regression_equals_scikit_learn(monkeypatch, strength, chunk):
    monkeypatch.setattr(logistic, "CHUNK", chunk)
    few = blobs(120, 4, 10, 1)
    x = normalize(few.x)
    ours = fit_logistic(x, few.y, 4, strength, start=torch.ones(10, 4, dtype=torch.float64))
    c = 1 / (strength * len(x))
    peer = LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=2000)
    peer.fit(x.double().numpy(), few.y.numpy())
    np.testing.assert_allclose(ours.numpy().T, peer.coef_, atol=2e-5)


def test_lists_are_fixed_stratified_and_nested():
    y = torch.randint(7, (2000,), generator=torch.Generator().manual_seed(0))
    one, ten = (stratified(y, fraction, 0) for fraction in (0.01, 0.1))
    assert torch.equal(one, stratified(y.clone(), 0.01, 0))
    assert not torch.equal(one, stratified(y, 0.01, 1))
    assert set(one.tolist()) < set(ten.tolist())
    for c in range(7):
        members = int((y == c).sum())
        assert int((y[one] == c).sum()) == max(1, round(members * 0.01))
        assert int((y[ten] == c).sum()) == round(members * 0.1)


def test_every_class_keeps_an_image():
    y = torch.arange(5).repeat(3)
    assert stratified(y, 0.01, 0).shape == (5,)


def test_settings():
    context = FakeContext(blobs(300, 3, 8, 1, 0.5), blobs(60, 3, 8, 2, 0.5))
    protocol = SemiSupervisedProtocol(probe=Probe(epochs=5))
    results = SemiSupervised(protocol).run(None, splits(3), context)
    found = figures(results)
    assert len(found) == len(results)
    settings = {s for s, metric in found if metric == "top1"}
    logreg = {f"logreg, {x}" for x in ("lambda=0.01", "lambda=0.1", "lambda=1", "best of 3 lambda")}
    readers = logreg | {"linear, best of 45 lr", f"logreg, lambda {CHOSEN}", f"linear, lr {CHOSEN}"}
    knn = {f"10% knn {k}" for k in ("k=10", "k=20", "best k", f"k {CHOSEN}")}
    # 1 % are 3 images: no k fits, and none can be held out
    assert settings == {f"{part} {r}" for part in ("1%", "10%") for r in readers} | knn
    best = found["10% logreg, best of 3 lambda", "top1"]
    strengths = ("0.01", "0.1", "1")
    assert best == max(found[f"10% logreg, lambda={s}", "top1"] for s in strengths) > 90
    assert set(SemiSupervised.main) <= set(found)


@pytest.mark.parametrize(
    ("each", "blank"),
    [(8, {"1%"}), (4, {"1%", "10%"}), (60, set()), (30, {"1%"})],
)
def test_a_share_that_is_another_share_is_blank_and_says_why(each, blank):
    """T14: every class keeps an image, so 1 % of 8 images each is really 12.5 %."""
    train = blobs(3 * each, 3, 8, 1, 0.5)
    train = Features(train.x, torch.arange(3).repeat(each))
    context = FakeContext(train, blobs(60, 3, 8, 2, 0.5))
    protocol = SemiSupervisedProtocol(probe=Probe(epochs=1))
    every = SemiSupervised(protocol).run(None, splits(3), context)
    results = [r for r in every if "held-out" not in r.setting]
    missing = {r.setting: r for r in results if r.missing}
    assert {setting.partition(" ")[0] for setting in missing} == blank
    for label in blank:
        records = [r for r in results if r.setting.startswith(f"{label} ")]
        assert {r.setting for r in records} == {
            f"{label} logreg, best of 3 lambda", f"{label} linear, best of 45 lr"
        }  # fmt: skip
        assert all(math.isnan(r.value) and "less than one image" in r.missing for r in records)
    assert set(SemiSupervised.main) <= set(figures(results))


def test_equal_lists_are_one_result():
    rows = torch.arange(10)
    lists = {0.01: rows, 0.1: rows.clone()}
    same = "1% and 10% of 600 images are the same images."
    assert dishonest(0.01, lists, 600, own=False) == same
    assert dishonest(0.1, lists, 100, own=False) == ""


@pytest.mark.parametrize(("held", "right"), [(9, False), (10, True), (40, True), (41, False)])
def test_a_list_of_its_own_is_the_share_that_it_is_named_for(held, right):
    """A file may name any number of images, whatever its name says."""
    reason = dishonest(0.1, {0.1: torch.arange(held)}, 200, own=True)
    share = f"holds {held} of 200 images, {held / 2:.1f}% of them"
    assert reason == ("" if right else f"the dataset's own list for 10% {share}.")
