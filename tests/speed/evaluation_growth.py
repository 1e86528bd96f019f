"""How the evaluation's kernels grow: python -m tests.speed.evaluation_growth"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it

from collections.abc import Callable, Iterator

import torch

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.benchmark import Features
from sslbench.benchmarks.kmeans import kmeans
from sslbench.benchmarks.knn import nearest_votes
from sslbench.benchmarks.linear import Probe, train_grid
from sslbench.benchmarks.logistic import fit_logistic
from sslbench.evaluation.features import pool_tokens
from tests.speed.growth import Growth, measured
from tests.speed.race import Work

CPU = torch.device("cpu")


def clouds(n: int, classes: int = 100, dim: int = 384) -> Features:
    """Features around class centres, the classes in turn, of length 1."""
    rng = torch.Generator().manual_seed(0)
    centres, y = torch.randn(classes, dim, generator=rng), torch.arange(n) % classes
    x = centres[y] + 2 * torch.randn(n, dim, generator=rng)
    return Features(torch.nn.functional.normalize(x), y)


def votes(bank: int = 50_000, queries: int = 500, k: int = 20, classes: int = 100) -> Work:
    data, asked = clouds(bank, classes), clouds(queries, classes)
    return lambda: nearest_votes(data, asked, classes, (k,), 0.07, CPU)


def clusters(n: int = 10_000, k: int = 200, steps: int = 5) -> Work:
    x = clouds(n).x
    return lambda: kmeans(x, k, steps, 0)


def regression(n: int = 10_000, classes: int = 200) -> Work:
    data = clouds(n, classes)
    return lambda: fit_logistic(data.x, data.y, classes, 0.01)


def grid(n: int = 4000, classes: int = 50, rates: int = 20) -> Work:
    data, probe = clouds(n, classes), Probe(rates=(0.1,) * rates, epochs=2, batch=400)
    return lambda: train_grid(data, classes, probe, 0, CPU)


def features(images: int = 8, side: int = 224) -> Work:
    config = BackboneConfig(name="vit_small", image_size=side, patch_size=16)
    backbone = build_backbone(config).eval()
    pixels = torch.randn(images, 3, side, side)
    return lambda: [pool_tokens(backbone, part, True) for part in pixels.split(8)]


def growths() -> Iterator[Growth]:
    thousands = (25_000, 50_000, 100_000, 200_000)
    doubled: list[tuple[str, Callable[[int], Work], tuple[int, ...]]] = [
        ("k-NN, images of the bank", lambda n: votes(bank=n), thousands),
        ("k-NN, queries", lambda n: votes(queries=n), (500, 1000, 2000, 4000)),
        ("k-NN, k", lambda n: votes(k=n), (20, 40, 80, 160)),
        ("k-NN, classes", lambda n: votes(classes=n), (125, 250, 500, 1000)),
        ("k-means, points", lambda n: clusters(n=n), (5_000, 10_000, 20_000, 40_000)),
        ("k-means, K", lambda n: clusters(k=n), (125, 250, 500, 1000)),
        ("logistic regression, images", lambda n: regression(n=n), (6_000, 12_000, 24_000, 48_000)),
        ("logistic regression, classes", lambda n: regression(classes=n), (125, 250, 500, 1000)),
        ("linear grid, images", lambda n: grid(n=n), (4_000, 8_000, 16_000, 32_000)),
        ("linear grid, classes", lambda n: grid(classes=n), (25, 50, 100, 200)),
        ("linear grid, rates", lambda n: grid(rates=n), (10, 20, 40, 80)),
        ("features, images", lambda n: features(images=n), (8, 16, 32, 64)),
        ("features, pixels of a side", lambda n: features(side=n), (112, 160, 224, 320)),
    ]
    for what, prepared, sizes in doubled:
        yield measured(what, prepared, sizes, 2 if "side" in what else 1)


if __name__ == "__main__":
    for growth in growths():
        print(growth.line(), flush=True)
