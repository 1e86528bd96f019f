import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy, normalize

from sslbench.benchmark import Features
from sslbench.benchmarks import logistic
from sslbench.benchmarks.linear import Probe
from sslbench.benchmarks.logistic import fit_logistic
from sslbench.benchmarks.selection import CHOSEN
from sslbench.benchmarks.semi_supervised import (
    SemiSupervised,
    SemiSupervisedProtocol,
    dishonest,
)
from sslbench.data.dataset import FileImages
from sslbench.data.subsets import find_list, stratified
from tests.benchmarks.fakes import FakeContext, blobs, figures, judged, splits

NAMES = [f"n{c}/n{c}_{i}.JPEG" for c in (1, 2) for i in range(100)]


@pytest.fixture
def data(tmp_path) -> SimpleNamespace:
    """200 training images in an ImageNet-style folder, and lists for 1 % and 10 % of them."""
    (tmp_path / "train").mkdir()
    (tmp_path / "subsets").mkdir()
    labels = np.repeat([0, 1], 100)
    train = FileImages(
        root=tmp_path / "train", name="set", split="train", names=NAMES, labels=labels
    )
    (tmp_path / "subsets" / "1percent.txt").write_text("n2_7.JPEG\nn1_3.JPEG\n")
    few = [Path(name).name for name in NAMES[::10]]
    (tmp_path / "10percent.txt").write_text("\n".join(few))
    about = {"name": "set", "fingerprint": "f", "split": "test", "classes": ["a", "b"]}
    return SimpleNamespace(**about, train=train, test=range(60))


def protocol_for(data) -> SemiSupervisedProtocol:
    asked = SemiSupervised(SemiSupervisedProtocol(probe=Probe(epochs=1), k=(1,)))
    (protocol,) = asked.protocols(judged(), data)
    return protocol


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


def test_logistic_regression_in_single_precision_reaches_the_minimum(monkeypatch):
    few = blobs(600, 12, 20, 1)
    x, found = normalize(few.x), {}
    for double in (0, 2**20):
        monkeypatch.setattr(logistic, "DOUBLE", double)
        weight = fit_logistic(x, few.y, 12, 0.01)
        loss = cross_entropy(x.double() @ weight, few.y)
        found[double] = float(loss + 0.005 * weight.square().sum())
    assert found[0] == pytest.approx(found[2**20], rel=1e-7)


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


def test_the_record_says_which_lists_were_used(data):
    first = protocol_for(data)
    assert set(first.files) == {"1%", "10%"}
    assert protocol_for(data) == first
    find_list(data.train, 0.01).write_text("n1_4.JPEG\nn2_7.JPEG\n")
    assert protocol_for(data).files["1%"] != first.files["1%"]
    assert protocol_for(data).files["10%"] == first.files["10%"]
    find_list(data.train, 0.1).unlink()
    assert set(protocol_for(data).files) == {"1%"}


def test_the_benchmark_learns_from_the_listed_images(data):
    features = blobs(200, 2, 4, 1, 0.1)
    train = Features(features.x, torch.from_numpy(data.train.labels.copy()))
    test = Features(train.x[[3, 107]], 1 - train.y[[3, 107]])  # the listed images, labels swapped
    context = FakeContext(train, test)
    found = figures(SemiSupervised(protocol_for(data)).run(None, data, context))
    assert found["1% knn k=1", "top1"] == 0
    drawn = SemiSupervised(SemiSupervisedProtocol(probe=Probe(epochs=1), k=(1,)))
    assert not {3, 107} & set(stratified(train.y.numpy(), 0.01, 0).tolist())
    assert figures(drawn.run(None, data, context)) != found


def test_a_list_that_comes_in_another_encoding_is_the_same_protocol(data):
    before, path = protocol_for(data).files, find_list(data.train, 0.01)
    path.write_bytes("n1_3.JPEG\r\nn2_7.JPEG\r\n".encode("utf-16"))
    assert protocol_for(data).files == before


def test_the_list_is_of_the_images_that_could_be_read(data):
    kept = torch.tensor([i for i in range(200) if i not in (0, 3)])
    features = Features(torch.zeros(198, 1), torch.zeros(198, dtype=torch.int64), kept)
    rows = SemiSupervised(protocol_for(data))._list(data, features, 0.01)
    assert rows.tolist() == [105]  # image 107


def test_many_logits_give_the_predictions_of_double_precision(monkeypatch):
    """Of features whose cosines are high, too, where rounding once misled the line search."""
    draw = torch.Generator().manual_seed(0)
    labels, centres = torch.arange(18_000) % 60, torch.randn(60, 64, generator=draw)
    noise, shared = torch.randn(18_000, 64, generator=draw), torch.randn(64, generator=draw)
    x = torch.nn.functional.normalize(centres[labels] + 3 * noise + 20 * shared)
    found = []
    for most in (0, 2**30):
        monkeypatch.setattr(logistic, "DOUBLE", most)
        weight = None
        for strength in (1.0, 0.1, 0.01):
            weight = fit_logistic(x, labels, 60, strength, start=weight)
        found.append((x.double() @ weight).argmax(1))
    assert (found[0] != found[1]).double().mean() < 3e-4
