"""The evaluation's kernels and the reading of features, by the sizes that they grow with."""

from __future__ import annotations

import torch

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import SIZES, BackboneConfig
from sslbench.benchmark import Features
from sslbench.benchmarks.kmeans import kmeans
from sslbench.benchmarks.knn import nearest_votes
from sslbench.benchmarks.linear import Probe, train_grid
from sslbench.benchmarks.logistic import fit_logistic
from sslbench.evaluation.features import pool_tokens
from tests.speed.growth import Part, exponent
from tests.speed.race import Work

CPU, PATCH = torch.device("cpu"), 16
SIDES = (112, 160, 224, 320)


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
    config = BackboneConfig(name="vit_small", image_size=side, patch_size=PATCH)
    backbone = build_backbone(config).eval()
    pixels = torch.randn(images, 3, side, side)
    return lambda: [pool_tokens(backbone, part, True) for part in pixels.split(8)]


def order_of_side(name: str, sides: tuple[int, ...]) -> float:
    """The exponent of a ViT's multiplications over an image's side.

    A block multiplies 12 N D^2 numbers in its layers and 2 N^2 D in its attention, of N tokens.
    """
    width, tokens = SIZES[name][0], [1 + (side // PATCH) ** 2 for side in sides]
    return exponent(sides, [n * (6 * width + n) for n in tokens])


PARTS = {
    "knn-bank": Part(
        "k-NN, images of the bank", lambda n: votes(bank=n), (25_000, 50_000, 100_000, 200_000)
    ),
    "knn-queries": Part("k-NN, queries", lambda n: votes(queries=n), (500, 1000, 2000, 4000)),
    "knn-k": Part("k-NN, k", lambda n: votes(k=n), (20, 40, 80, 160)),
    "knn-classes": Part("k-NN, classes", lambda n: votes(classes=n), (125, 250, 500, 1000)),
    "kmeans-points": Part(
        "k-means, points", lambda n: clusters(n=n), (5_000, 10_000, 20_000, 40_000)
    ),
    "kmeans-k": Part("k-means, K", lambda n: clusters(k=n), (125, 250, 500, 1000)),
    "logistic-images": Part(
        "logistic regression, images", lambda n: regression(n=n), (6_000, 12_000, 24_000, 48_000)
    ),
    "logistic-classes": Part(
        "logistic regression, classes", lambda n: regression(classes=n), (125, 250, 500, 1000)
    ),
    "linear-images": Part(
        "linear grid, images", lambda n: grid(n=n), (4_000, 8_000, 16_000, 32_000)
    ),
    "linear-classes": Part("linear grid, classes", lambda n: grid(classes=n), (25, 50, 100, 200)),
    "linear-rates": Part("linear grid, rates", lambda n: grid(rates=n), (10, 20, 40, 80)),
    "features-images": Part(
        "features of a ViT-S/16, images", lambda n: features(images=n), (8, 16, 32, 64)
    ),
    "features-side": Part(
        "features of a ViT-S/16, pixels of a side",
        lambda n: features(side=n),
        SIDES,
        order_of_side("vit_small", SIDES),
    ),
}
