"""What is chosen on held-out labels is what a plain hold-out chooses, and read off correctly."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize

from sslbench.benchmark import Features
from sslbench.benchmarks.knn import KNN, KNNProtocol
from sslbench.benchmarks.linear import Linear, LinearProtocol, Probe
from sslbench.benchmarks.selection import unfit
from sslbench.benchmarks.semi_supervised import SemiSupervised, SemiSupervisedProtocol, stratified
from sslbench.data.subsets import held_out
from sslbench.reporting.table import build
from sslbench.reporting.views import layout_view
from tests.benchmarks.fakes import FakeContext, blobs, figures, splits
from tests.benchmarks.test_linear import train_alone
from tests.benchmarks.test_small_sets import run

RATES = (0.003, 0.03, 0.3, 3.0)
LR = "lr chosen on held-out labels"


def rows(features: Features, index: np.ndarray) -> Features:
    return Features(features.x[index], features.y[index])


def noise(n: int, classes: int, seed: int, dim: int = 6) -> Features:
    """Features that say nothing about their labels."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    return Features(torch.randn(n, dim, generator=rng), y)


def accuracy(weight: torch.Tensor, bias: torch.Tensor, features: Features) -> float:
    guesses = [int((x @ weight + bias).argmax()) for x in features.x]
    right = sum(g == int(c) for g, c in zip(guesses, features.y, strict=True))
    return 100 * right / len(guesses)


@pytest.mark.parametrize("seed", range(3))
def test_the_rate_is_the_one_of_a_plain_hold_out(seed: int) -> None:
    train, test = blobs(150, 4, 6, seed, 2.0), blobs(80, 4, 6, 10 + seed, 2.0)
    probe = Probe(RATES, epochs=5)
    found = figures(Linear(LinearProtocol(probe)).run(None, splits(4), FakeContext(train, test)))
    kept, held = (rows(train, index) for index in held_out(train.y.numpy(), 0.1))
    scores, values = [], []
    for rate in RATES:
        scores.append(accuracy(*train_alone(kept, 4, rate, probe, 0), held))
        values.append(accuracy(*train_alone(train, 4, rate, probe, 0), test))
    chosen = scores.index(max(scores))
    assert found[LR, "lr"] == RATES[chosen]
    assert found[LR, "top1"] == pytest.approx(values[chosen])
    assert found["best of 4 lr", "top1"] == pytest.approx(max(values))
    assert found[LR, "optimism"] == pytest.approx(max(values) - values[chosen])


def test_the_papers_choice_is_too_high_on_noise_and_the_other_is_not() -> None:
    honest, optimism = [], []
    for seed in range(12):
        context = FakeContext(noise(60, 2, seed), noise(40, 2, 100 + seed))
        protocol = LinearProtocol(Probe(RATES, epochs=3))
        found = figures(Linear(protocol).run(None, splits(2), context))
        honest.append(found[LR, "top1"])
        optimism.append(found[LR, "optimism"])
    assert min(optimism) >= 0 and fmean(optimism) > 1
    assert abs(fmean(honest) - 50) < 5


def right(peer, train: Features, queries: Features) -> float:
    """Accuracy of a classifier of scikit-learn on normalised features, in percent."""
    peer.fit(normalize(train.x.double()).numpy(), train.y.numpy())
    return 100 * peer.score(normalize(queries.x.double()).numpy(), queries.y.numpy())


def neighbours(k: int) -> KNeighborsClassifier:
    # on the unit sphere |a - b|^2 = 2 - 2 cos
    return KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d**2 / 2) / 0.07))


def logistic(strength: float, n: int) -> LogisticRegression:
    return LogisticRegression(C=1 / (strength * n), fit_intercept=False, tol=1e-8, max_iter=2000)


def plain_choice(make, values, train: Features, test: Features) -> tuple[float, float, float]:
    """The value that a plain hold-out chooses, its accuracy on `test`, and the best one there."""
    kept, held = (rows(train, index) for index in held_out(train.y.numpy(), 0.1))
    scores = [right(make(v, len(kept.y)), kept, held) for v in values]
    on_test = [right(make(v, len(train.y)), train, test) for v in values]
    chosen = scores.index(max(scores))
    return values[chosen], on_test[chosen], max(on_test)


@pytest.mark.parametrize("seed", range(4))
def test_the_k_is_the_one_of_a_plain_hold_out(seed: int) -> None:
    train, test = blobs(150, 4, 6, seed, 3.0), blobs(80, 4, 6, 10 + seed, 3.0)
    ks = (1, 5, 20, 60)
    benchmark = KNN(KNNProtocol(k=ks[::-1]))
    found = figures(benchmark.run(None, splits(4), FakeContext(train, test)))
    k, value, best = plain_choice(lambda k, n: neighbours(k), ks, train, test)
    setting = "k chosen on held-out labels"
    assert found[setting, "k"] == k
    assert found[setting, "top1"] == pytest.approx(value)
    assert found["best k", "top1"] == pytest.approx(best)
    assert found[f"k={found['best k', 'k']}", "top1"] == pytest.approx(best)
    assert found[setting, "optimism"] == pytest.approx(best - value)


@pytest.mark.parametrize("seed", range(4))
def test_the_lambda_is_the_one_of_a_plain_hold_out(seed: int) -> None:
    train, test = blobs(160, 4, 12, seed, 3.0), blobs(80, 4, 12, 10 + seed, 3.0)
    strengths = (1e-5, 1e-3, 0.1, 10.0)
    protocol = SemiSupervisedProtocol(
        (0.5,), strengths=strengths[::-1], k=(), probe=Probe(epochs=1)
    )
    found = figures(SemiSupervised(protocol).run(None, splits(4), FakeContext(train, test)))
    half = rows(train, stratified(train.y.numpy(), 0.5, 0))
    strength, value, best = plain_choice(logistic, strengths, half, test)
    setting = "50% logreg, lambda chosen on held-out labels"
    assert found[setting, "lambda"] == strength
    assert found[setting, "top1"] == pytest.approx(value)
    assert found["50% logreg, best of 4 lambda", "top1"] == pytest.approx(best)
    assert found[setting, "optimism"] == pytest.approx(best - value)


def test_a_k_that_only_the_whole_bank_fits_cannot_be_chosen() -> None:
    train, test = blobs(20, 2, 4, 1), blobs(30, 2, 4, 2)
    found = KNN(KNNProtocol(k=(20,))).run(None, splits(2), FakeContext(train, test))
    (reason,) = {r.missing for r in found} - {""}
    assert reason == "18 images are left to ask, fewer than k."
    assert {r.setting for r in found if not r.missing} == {"k=20", "best k"}


def test_a_rate_that_diverges_on_all_labels_is_not_chosen() -> None:
    train, test = blobs(150, 4, 6, 1), blobs(40, 4, 6, 2)
    train.x[held_out(train.y.numpy(), 0.1)[1][0]] = 1e25  # seen by the first grid alone
    protocol = LinearProtocol(Probe((0.1, 1e-30), epochs=2))
    found = figures(Linear(protocol).run(None, splits(4), FakeContext(train, test)))
    assert found[LR, "lr"] == 1e-30


def test_a_class_with_one_image_is_a_blank_with_a_reason() -> None:
    train = Features(torch.randn(9, 4), torch.tensor([0] * 4 + [1] * 4 + [2]))
    context = FakeContext(train, blobs(20, 3, 4, 1))
    records = Linear(LinearProtocol(Probe(RATES, epochs=1))).run(None, splits(3), context)
    missing = {(r.setting, r.metric): r.missing for r in records if r.missing}
    reason = "1 of 3 classes have one training image only, so that none of theirs can be held out."
    assert missing == {(LR, "top1"): reason, (LR, "optimism"): reason}
    assert figures(records)["best of 4 lr", "top1"] >= 0


def test_nothing_held_out_is_a_reason() -> None:
    assert unfit(np.repeat([0, 1], 3), 0.0) == "No training images are held out."
    assert unfit(np.repeat([0, 1], 3), 0.1) == ""


def test_the_layout_shows_both_choices_and_their_difference(tmp_path) -> None:
    """Every column of frozen features is one of some benchmark's records, blank ones included."""
    found = run(tmp_path, "ab", [0, 1] * 40, [0, 1] * 10)
    (section,) = build(found.values(), "optimism").sections
    frozen = [name for name in layout_view("optimism").columns if "finetune" not in name]
    assert len(section.columns) == len(frozen) == 18
    values = {key: found[key].value for key, _ in section.columns}
    columns = list(values)
    for papers, honest, difference in zip(*(columns[i::3] for i in range(3)), strict=True):
        assert difference == (*honest[:2], "optimism") and papers[0] == honest[0]
        if not found[honest].missing:
            assert values[difference] == pytest.approx(values[papers] - values[honest])
    missing = {key[0] for key in columns if found[key].missing}
    assert missing == {"semi_supervised"}  # 1 % of 80 images are fewer than one of each class
