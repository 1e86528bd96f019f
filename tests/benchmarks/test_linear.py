import math

import pytest
import torch
from torch import nn

from sslbench.benchmarks.linear import (
    RATES,
    Linear,
    LinearProtocol,
    Probe,
    best_head,
    softmax_,
    train_grid,
)
from sslbench.errors import UserError
from sslbench.system.machine import denormals_as_zeros
from tests.benchmarks.fakes import FakeContext, blobs, figures, judged, splits

CPU = torch.device("cpu")


def train_alone(features, classes, rate, probe, seed):
    """One head with torch's own autograd, SGD and cosine schedule."""
    n, dim = features.x.shape
    batch = min(probe.batch, n // 10)
    rng = torch.Generator().manual_seed(seed)
    head = nn.Linear(dim, classes)
    head.weight.data = torch.randn(dim, classes, generator=rng).T * probe.init_std
    head.bias.data.zero_()
    sgd = torch.optim.SGD(head.parameters(), rate * batch / 256, probe.momentum)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, probe.epochs, eta_min=0)
    for _ in range(probe.epochs):
        for index in torch.randperm(n, generator=rng).split(batch):
            loss = nn.functional.cross_entropy(head(features.x[index]), features.y[index])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        cosine.step()
    return head.weight.data.T, head.bias.data


@pytest.mark.parametrize("index", [0, 20, 36])
def test_every_head_of_the_grid_is_trained_as_if_alone(index):
    train, probe = blobs(205, 5, 12, 1), Probe(epochs=5)
    weight, bias = train_grid(train, 5, probe, 3, CPU)
    alone = train_alone(train, 5, RATES[index], probe, 3)
    torch.testing.assert_close(weight[:, index], alone[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(bias[index], alone[1], atol=1e-5, rtol=1e-5)


def test_denormals_taken_as_zeros_do_not_change_the_grid():
    """The softmax of saturated heads is full of them; on Intel they made it 5 times slower."""
    train = blobs(400, 5, 12, 1, 0.5)
    train.x.mul_(3)
    weight, bias = train_grid(train, 5, Probe(epochs=2), 3, CPU)
    share = (torch.einsum("nd,dhc->nhc", train.x, weight) + bias).softmax(2)
    assert ((share > 0) & (share < torch.finfo(torch.float32).tiny)).any()
    kept = train_grid(train, 5, Probe(epochs=10), 3, CPU)
    with denormals_as_zeros():
        flushed = train_grid(train, 5, Probe(epochs=10), 3, CPU)
    assert all(map(torch.equal, kept, flushed))


def test_the_grid_is_the_papers():
    assert len(RATES) == 45
    assert (RATES[0], RATES[-1]) == (1e-4, 9.0)
    assert all(math.isclose(RATES[i + 9], 10 * RATES[i]) for i in range(36))


def test_a_diverged_head_is_never_the_best():
    test = blobs(50, 3, 6, 1)
    weight, bias = torch.zeros(6, 2, 3), torch.zeros(2, 3)
    weight[:, 0] = math.nan
    test.y[:] = 0  # arg-max of NaNs would be class 0: all hits
    bias[1, 1] = 1.0
    assert best_head(weight, bias, test) == 1


def test_records_the_accuracy_and_the_chosen_rate():
    context = FakeContext(blobs(300, 10, 16, 1, 0.5), blobs(100, 10, 16, 2, 0.5))
    benchmark = Linear(LinearProtocol(Probe(epochs=10)))
    found = figures(benchmark.run(None, splits(10), context))
    assert found == figures(benchmark.run(None, splits(10), context))
    assert found["best of 45 lr", "top1"] > 95
    assert found["best of 45 lr", "lr"] in RATES
    assert {m for setting, m in found if setting == "best of 45 lr"} == {"top1", "lr"}


@pytest.mark.parametrize(
    ("arch", "pool", "tapped"),
    [("ViT-Nano/8", "cls", (4, "cls")), ("ViT-B/16", "cls", (1, "cls+mean"))],
)
def test_taps_the_blocks_of_the_papers(arch, pool, tapped):
    context = FakeContext(blobs(20, 2, 4, 1), blobs(10, 2, 4, 2))
    context.model = judged(arch=arch)
    Linear(LinearProtocol(Probe(epochs=1), pool=pool)).run(None, splits(2), context)
    assert {(s.layers, s.pool, s.norm) for s in context.specs} == {(*tapped, True)}


def released(features: int, classes: int, method: str = "fake") -> tuple[Linear, FakeContext]:
    """The benchmark planned for a model with a classifier, and that model's context."""
    context = FakeContext(blobs(40, 5, 12, 1, 0.3), blobs(30, 5, 12, 2, 0.3))
    context.model = judged(method)
    context.model.classifier = nn.Linear(features, classes)
    (trained, protocol) = Linear().protocols(context.model, splits(5))
    assert trained == Linear().protocol
    return Linear(protocol), context


def test_a_released_classifier_is_judged_as_it_is():
    benchmark, context = released(12, 5)
    found = figures(benchmark.run(None, splits(5), context))
    test, layer = context.parts["test"], context.model.classifier
    right = layer(test.x).argmax(dim=1) == test.y
    wanted = 100 * right.double().mean().item()
    assert found == {("released classifier", "top1"): pytest.approx(wanted)}
    assert benchmark.variant == "classifier"
    assert [s.pool for s in context.specs] == ["cls"]


def test_another_classifier_is_another_protocol():
    (first, _), (second, _) = released(12, 5), released(12, 5)
    assert first.protocol.classifier != second.protocol.classifier


@pytest.mark.parametrize("sizes", [(24, 5), (12, 1000)])
def test_a_classifier_of_other_sizes_is_refused(sizes):
    benchmark, context = released(*sizes)
    with pytest.raises(UserError, match=rf"reads {sizes[0]} features and tells {sizes[1]} classes"):
        benchmark.run(None, splits(5), context)


@pytest.mark.parametrize("classes", [3, 100])
def test_the_softmax_in_place_is_torch_s(classes):
    logits = torch.randn(40, 5, classes, generator=torch.Generator().manual_seed(0)) * 60
    logits[3, 2, 1] = math.inf  # of a head that diverges
    expected = logits.double().softmax(2).float()
    torch.testing.assert_close(softmax_(logits), expected, atol=1e-6, rtol=0, equal_nan=True)
