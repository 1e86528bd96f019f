"""What is chosen on held-out labels is what a plain hold-out chooses, and read off correctly."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest
import torch

from sslbench.benchmark import Features
from sslbench.benchmarks.linear import Linear, LinearProtocol, Probe
from sslbench.benchmarks.selection import unfit
from sslbench.data.subsets import held_out
from tests.benchmarks.fakes import FakeContext, blobs, figures, splits
from tests.benchmarks.test_linear import train_alone

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
