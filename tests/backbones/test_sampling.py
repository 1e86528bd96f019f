"""Draws of a step belong to its samples: the same for any split of the batch."""

from __future__ import annotations

import pytest
import torch
from timm.layers import DropPath as TimmDropPath
from torch import nn
from torch.utils.checkpoint import checkpoint

from sslbench.backbones.sampling import (
    DropPath,
    PerSample,
    Place,
    residual,
    set_place,
    step_seed,
)

CPU = torch.device("cpu")


def draws(shape: tuple[int, ...], place: Place, views: int = 2) -> torch.Tensor:
    """(views, count, ...): two calls after one seed, the second's."""
    module = PerSample()
    set_place(module, place)
    torch.manual_seed(step_seed(3, 7))
    module.uniform(views * place.count, (), CPU)
    return module.uniform(views * place.count, shape, CPU).unflatten(0, (views, place.count))


@pytest.mark.parametrize("shape", [(), (3, 2)])
@pytest.mark.parametrize("parts", [2, 4])
def test_every_split_of_a_batch_draws_the_same(shape, parts) -> None:
    whole = draws(shape, Place(0, 8, 8))
    size = 8 // parts
    pieces = [draws(shape, Place(i * size, size, 8)) for i in range(parts)]
    assert torch.equal(torch.cat(pieces, dim=1), whole)
    assert len(whole.unique()) == whole.numel()  # nothing is drawn twice


def test_paths_are_dropped_for_whole_samples_as_timm_does() -> None:
    ours, theirs = DropPath(0.3).train(), TimmDropPath(0.3).train()
    branch = torch.ones(20_000, 2, 3)
    for path in (ours, theirs):
        out = path(branch)
        assert torch.equal(out.flatten(1).amin(1), out.flatten(1).amax(1))
        values = out[:, 0, 0].unique()
        assert torch.allclose(values, torch.tensor([0, 1 / 0.7]))
        assert out.mean() == pytest.approx(1, abs=0.02)
    assert torch.equal(ours.eval()(branch), branch)


@pytest.mark.parametrize("rate", [0.0, 0.4, 0.999, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_branches_are_computed_where_they_are_kept(rate, training) -> None:
    """Values and gradients are those of computing all of them, for the same draws."""
    drop, layer, seen = DropPath(rate).train(training), nn.Linear(3, 3).double(), []
    inputs = torch.randn(12, 2, 3, dtype=torch.float64)
    results = []
    for add in (
        lambda x: x + drop(layer(x)),
        lambda x: residual(x, drop, lambda rows: seen.append(len(rows)) or layer(rows)),
    ):
        torch.manual_seed(3)
        layer.zero_grad()
        x = inputs.clone().requires_grad_()
        out = add(x)
        out.square().sum().backward()
        results.append([out.detach(), x.grad, layer.weight.grad, layer.bias.grad])
    for every, kept in zip(*results, strict=True):
        torch.testing.assert_close(kept, every, rtol=1e-13, atol=1e-13)
    torch.manual_seed(3)
    kept = drop.kept(12)
    count = 12 if kept is None else int(kept.sum()) or 12  # of none, all: gradients of zero
    assert seen == [count] and (rate != 0.4 or not training or 0 < count < 12)


def test_a_repeated_forward_pass_drops_the_same_paths() -> None:
    """Activation checkpointing computes a block again in the backward pass."""
    block = nn.Sequential(nn.Linear(4, 4), DropPath(0.5)).train()
    set_place(block, Place(4, 4, 16))
    inputs = torch.randn(4, 4)
    gradients = []
    for run in (block, lambda x: checkpoint(block, x, use_reentrant=False)):
        torch.manual_seed(1)
        x = inputs.clone().requires_grad_()
        out = run(x)
        torch.rand(3)  # the generator moves on before the backward pass
        out.sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


def test_seeds_may_be_any_integer() -> None:
    seeds = {step_seed(s, t) for s in (0, 1, 202611251333, 2**70) for t in range(50)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
