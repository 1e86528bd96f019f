"""A backbone, a model, data and benchmarks small enough to be judged in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone, Tokens
from sslbench.benchmark import Benchmark, Splits
from sslbench.data.dataset import ArrayImages, BrokenImage
from sslbench.data.dense import DenseData, DenseSplit
from sslbench.evaluation.watcher import Watcher
from sslbench.result import ModelCard, Result

SIDE, CLASSES = 8, 3


class TinyBackbone(Backbone):
    """Patch tokens are linear in the pixels; block i multiplies them by i. Counts its calls."""

    embed_dim, patch_size = 6, 4

    def __init__(self, depth: int = 2, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.depth, self.calls = depth, 0
        self.embed = nn.Conv2d(3, self.embed_dim, self.patch_size, self.patch_size)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tokens:
        return self.last_blocks(images, 1)[0]

    def last_blocks(self, images: Tensor, n: int) -> list[Tokens]:
        self.calls += 1
        x = self.embed(images)
        patches = x.flatten(2).transpose(1, 2)
        cls = patches.max(dim=1).values
        grid = (x.shape[2], x.shape[3])
        blocks = range(1, self.depth + 1)[-n:]
        return [Tokens(cls * i, patches * i, grid) for i in blocks]


@dataclass
class FakeModel:
    backbone: Backbone
    card: ModelCard
    poolings: tuple[str, ...] = ("cls",)
    image_size: int = SIDE
    interpolation: str = "bicubic"
    crop_ratio: float | None = None
    reads: str = ""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    head: nn.Module | None = None
    source: str = "/somewhere/fake"
    classifier: nn.Linear | None = None


def model(
    sha256: str = "aa", poolings: tuple[str, ...] = ("cls",), label: str = "", **more: object
) -> FakeModel:
    card = ModelCard(sha256, method="fake", arch="tiny", source="fake", label=label)
    return FakeModel(TinyBackbone(), card, poolings, **more)  # type: ignore[arg-type]


class Images(ArrayImages):
    """Noise around one colour per class; the images listed in `broken` cannot be read."""

    def __init__(self, n: int, seed: int, split: str, broken: tuple[int, ...] = ()) -> None:
        rng = np.random.default_rng(seed)
        labels = np.arange(n) % CLASSES
        colours = np.eye(CLASSES)[labels][:, None, None, :] * 90 + 60
        pixels = (colours + rng.normal(0, 30, (n, SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
        names = [f"{split}/{i}.png" for i in range(n)]
        super().__init__(
            pixels=pixels,
            name="colours",
            split=split,
            names=names,
            labels=labels,
            classes=tuple("abc"),
            crop_ratio=1.0,
        )
        self.broken = broken

    def image(self, index: int):
        if index in self.broken:
            raise BrokenImage(self.names[index], "cut short")
        return super().image(index)


def splits(train: int = 60, test: int = 30) -> Splits:
    return Splits("colours", "f00d", "abc", Images(train, 0, "train"), Images(test, 1, "test"))


def dense(kind: str = "coco", **changes: object) -> DenseData:
    part = DenseSplit(Path("images"), Path("annotations"), 7)
    given = {"name": f"scenes-{kind}", "fingerprint": f"{kind}0", "classes": tuple("ab")}
    given |= {"train": part, "test": part, "split": "test"}
    return DenseData(kind, **{**given, **changes})  # type: ignore[arg-type]


STAND_IN = ModelCard("nothing", method="all-background", arch="none")


@dataclass(frozen=True)
class BoxesProtocol:
    size: int = 3


class Boxes(Benchmark):
    """Works apart, needs no pool, records a stand-in beside the model; counts its calls."""

    name, version, kind, apart = "boxes", "1", "coco", True
    Protocol = BoxesProtocol
    main = (("", "AP^b"),)
    calls: list[str] = []

    def __init_subclass__(cls) -> None:
        cls.calls = []

    def run(self, backbone: Backbone, data: DenseData, context) -> list[Result]:
        self.calls.append(context.model.card.sha256)
        self.work(context)
        n = data.test.count
        floor = context.result(self, data, "", "AP^b", 1.0, n, model=STAND_IN)
        return [context.result(self, data, "", "AP^b", 31.2, n), floor]

    def work(self, context) -> None:
        """What a test makes of it."""


class Recorder(Watcher):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.begun: list[tuple[str, int, int]] = []
        self.seen: list[tuple[str, str, int, int]] = []
        self.ended: dict[str, str] = {}

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def starts(self, job: str, number: int, total: int) -> None:
        self.begun.append((job, number, total))

    def progress(self, job: str, what: str, done: int, total: int) -> None:
        self.seen.append((job, what, done, total))

    def ends(self, job: str, outcome: str) -> None:
        self.ended[job] = outcome
