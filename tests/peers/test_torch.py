"""Clipping against torch's own, per tensor and over all."""

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from sslbench.recipes.recipe import OptimConfig
from sslbench.training.optim import clip_gradients


def parameters():
    """Gradient norms from far below to far above a limit of 1."""
    draw = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.zeros(5, n)) for n in (1, 2, 3, 4)]
    for parameter, scale in zip(made, (0.01, 0.3, 1.0, 30.0), strict=True):
        parameter.grad = torch.randn(parameter.shape, generator=draw) * scale
    return [*made, nn.Parameter(torch.zeros(2))]  # the last one without a gradient


@pytest.mark.parametrize("limit", [0.3, 1.0, 1e3])
@pytest.mark.parametrize("clip_by", ["tensor", "global"])
def test_clips_as_torch_does(limit, clip_by):
    ours, theirs = parameters(), parameters()
    total = clip_gradients(ours, OptimConfig(clip=limit, clip_by=clip_by))
    expected = clip_grad_norm_(theirs, torch.inf)
    torch.testing.assert_close(total, expected)
    for group in [theirs] if clip_by == "global" else [[p] for p in theirs]:
        clip_grad_norm_(group, limit)
    for a, b in zip(ours[:-1], theirs[:-1], strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=0)
    assert ours[-1].grad is None
