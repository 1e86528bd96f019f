"""The linear probe's 45 learning rates, against the official loop over 45 heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sslbench.benchmark import Features
from sslbench.benchmarks.linear import RATES, Probe, train_grid
from tests.speed.race import Race

IMAGES, WIDTH, CLASSES = 10_000, 384, 100
PROBE, SEED = Probe(epochs=2), 0
NEAR = 1e-3  # of the weights: what rounding adds up to in heads of a large rate


def race() -> Race:
    rng = torch.Generator().manual_seed(1)
    y = torch.randint(CLASSES, (IMAGES,), generator=rng)
    centres = torch.randn(CLASSES, WIDTH, generator=rng)
    data = Features(centres[y] + 4 * torch.randn(IMAGES, WIDTH, generator=rng), y)
    ours, theirs = by_sslbench(data), official(data)
    apart = float((ours - theirs).norm() / theirs.norm())
    if apart > NEAR:
        raise ValueError(f"the weights differ by {apart:.1e} of them")
    return Race(
        "linear",
        f"{PROBE.epochs} epochs of {len(RATES)} linear heads on {IMAGES:,} features of {WIDTH} "
        f"numbers, {CLASSES} classes",
        lambda: by_sslbench(data),
        {"the official loop": lambda: official(data)},
        {"the official loop": 1.15},
        "images",
        PROBE.epochs * IMAGES,
        f"the weights of all heads, to {apart:.0e} of them",
    )


def by_sslbench(data: Features) -> Tensor:
    """Weights (D, H, C)."""
    return train_grid(data, CLASSES, PROBE, SEED, torch.device("cpu"))[0]


def official(data: Features) -> Tensor:
    """One head, loss and SGD a rate, as `eval_linear_multi.py` of iBOT and DINOv2 do it."""
    rng, batch = torch.Generator().manual_seed(SEED), min(PROBE.batch, IMAGES // 10)
    first = torch.randn(WIDTH, CLASSES, generator=rng).T * PROBE.init_std
    heads = nn.ModuleList(nn.Linear(WIDTH, CLASSES) for _ in RATES)
    for head in heads:
        head.weight.data.copy_(first)
        head.bias.data.zero_()
    peaks = [rate * batch / 256 for rate in RATES]
    optimisers = [
        torch.optim.SGD(head.parameters(), peak, PROBE.momentum)
        for head, peak in zip(heads, peaks, strict=True)
    ]
    for epoch in range(PROBE.epochs):
        decay = 0.5 * (1 + math.cos(math.pi * epoch / PROBE.epochs))
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            optimiser.param_groups[0]["lr"] = peak * decay
        for index in torch.randperm(IMAGES, generator=rng).split(batch):
            x, y = data.x[index], data.y[index]
            for head, optimiser in zip(heads, optimisers, strict=True):
                optimiser.zero_grad()
                cross_entropy(head(x), y).backward()
                optimiser.step()
    return torch.stack([head.weight.data.T for head in heads], dim=1)
