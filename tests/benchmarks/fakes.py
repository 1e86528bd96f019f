"""A Context over ready-made features."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from sslbench.benchmark import Features
from sslbench.result import ModelCard, Result


def blobs(n: int, classes: int, dim: int, seed: int, spread: float = 1.0) -> Features:
    """Gaussian clouds around fixed class centres."""
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=rng)
    return Features(centres[y] + spread * torch.randn(n, dim, generator=rng), y)


def splits(classes: int) -> SimpleNamespace:
    return SimpleNamespace(
        name="blobs",
        fingerprint="f",
        split="test",
        classes=[str(c) for c in range(classes)],
        test=range(60),
    )


def judged(method: str = "fake", arch: str = "tiny", **more: object) -> SimpleNamespace:
    """What a benchmark looks up of a model."""
    card = ModelCard("aa", method, arch)
    more = {"reads": "", "classifier_name": "", "classifier_given": False} | more
    return SimpleNamespace(card=card, poolings=("cls",), classifier=None, **more)


class FakeContext:
    """Gives the same features whatever is asked and remembers the specs."""

    def __init__(self, train: Features, test: Features, head: nn.Module | None = None) -> None:
        self.parts, self._head, self.specs = {"train": train, "test": test}, head, []
        self.seed, self.device, self.model = 0, torch.device("cpu"), judged()

    def features(self, backbone, data, part, spec):
        self.specs.append(spec)
        return self.parts[part]

    def head(self):
        return self._head

    def result(self, benchmark, data, setting, metric, value, n, missing=""):
        where = (data.name, data.fingerprint, data.split)
        what = (setting, benchmark.protocol.pool, metric, value, n)
        card = self.model.card
        return Result(card, benchmark.name, benchmark.version, *where, *what, {}, missing=missing)


def figures(results) -> dict[tuple[str, str], float]:
    return {(r.setting, r.metric): r.value for r in results}
