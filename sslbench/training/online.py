"""Measures during training whether anything is learnt, compared with untrained weights.

If the training images have labels: k-NN among a few of them, each image against all others. If not:
whether two crops of one image find each other among the crops of all. Neither changes the model or
the state of a random generator, and neither uses a validation or test split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from sslbench.backbones.base import Backbone
from sslbench.data import augment
from sslbench.data.dataset import BrokenImage, ImageDataset
from sslbench.data.rng import order_rng, sample_rng
from sslbench.method import Method
from sslbench.recipes.recipe import Recipe
from sslbench.training.health import START

IMAGES = 400  # at most: a standard error of 2.5 points at worst
PER_CLASS = 20  # images per class at least, by using fewer classes
# Patches trained between two measurements per measured patch. A forward pass in fp32 is so much
# cheaper than a step in bf16, teacher included, that this takes less than 3 % of the time on a CPU.
SHARE = 24
NEIGHBOURS, TEMPERATURE = 10, 0.07  # of the k-NN (DINO, appendix F)
MATCHED_SCALE = (0.3, 0.6)  # areas of the crops that should find each other
BATCH = 100


class Watch(Protocol):
    """What is measured of a run while it trains; all processes call it after the same steps."""

    def sentence(self) -> str:
        """What will be logged, in words; "" if nothing will."""
        ...

    def recall(self, lines: Iterable[Mapping[str, float]]) -> None:
        """Takes what it measured at the start from the log of a resumed run."""
        ...

    def due(self, step: int) -> bool:
        """Whether a line of the log is written after `step` steps, whatever its interval."""
        ...

    def values(self, step: int, log_every: int, total_steps: int) -> dict[str, float]:
        """The values to log after `step` steps, when a log line is due; {} if no measurement is."""
        ...


@dataclass(frozen=True)
class Probe:
    """What is measured, in percent; `key` is its name in the log.

    pixels: uint8 (V, N, 3, H, W), V = 2 crops of an image or 1; labels: int64 (N,) or None;
    chance: in percent; description: in words.
    """

    key: str
    pixels: Tensor
    labels: Tensor | None
    chance: float
    description: str

    def score(self, x: Tensor) -> float:
        """Percent of right answers; x: features (V, N, D)."""
        x = normalize(x, dim=-1)
        if self.labels is None:
            match = (x[0] @ x[1].T).argmax(1)
            return 100 * float((match == torch.arange(len(match), device=x.device)).float().mean())
        labels = self.labels.to(x.device)
        similar = (x[0] @ x[0].T).fill_diagonal_(-torch.inf)
        near, who = similar.topk(min(NEIGHBOURS, len(labels) - 1))
        votes = (near / TEMPERATURE).exp()[..., None] * one_hot(labels)[who]
        return 100 * float((votes.sum(1).argmax(1) == labels).float().mean())


def make_probe(dataset: ImageDataset, size: int, most: int) -> Probe | None:
    """A probe of at most `most` views of size x size pixels; None for fewer than two images."""
    labels, chosen = dataset.labels, np.empty(0, dtype=np.int64)
    if labels is not None:
        chosen = _of_few_classes(labels, most)
    if labels is not None and len(chosen):
        good, pixels = _read(dataset, chosen, lambda image, _: [_centre(image, size)])
        kept = np.unique(labels[good], return_inverse=True)
        classes = len(kept[0])
        if classes < 2:
            return None
        description = (
            f"{len(good)} training images of {classes} classes, each asking the nearest "
            f"{min(NEIGHBOURS, len(good) - 1)} others"
        )
        return Probe("knn_top1", pixels, torch.from_numpy(kept[1]), 100 / classes, description)
    chosen = order_rng(0, 0).permutation(len(dataset))[: most // 2]  # two views of each
    good, pixels = _read(dataset, chosen, lambda image, index: _crops(image, index, size))
    if len(good) < 2:
        return None
    description = f"two crops of {len(good)} training images, each seeking the other"
    return Probe("views_match", pixels, None, 100 / len(good), description)


def _of_few_classes(labels: np.ndarray, most: int) -> np.ndarray:
    """Positions of up to `most` images, equally many of up to most / PER_CLASS classes."""
    rng = order_rng(0, 0)
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    classes = rng.permutation(classes[counts > 1])[: max(2, most // PER_CLASS)]
    if len(classes) < 2:
        return np.empty(0, dtype=np.int64)
    each = max(2, most // len(classes))
    return np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:each] for c in classes])


def _read(
    dataset: ImageDataset,
    chosen: np.ndarray,
    views: Callable[[Image.Image, int], Sequence[Image.Image]],
) -> tuple[list[int], Tensor]:
    """Positions of the images that can be read, and their views, uint8 (V, N, 3, H, W)."""
    good, arrays = [], []
    for index in chosen.tolist():
        try:
            image = dataset.image(index)
        except BrokenImage:
            continue  # training reports it
        arrays.append(np.stack([augment.to_array(view) for view in views(image, index)]))
        good.append(index)
    return good, torch.from_numpy(np.stack(arrays, axis=1)) if arrays else torch.empty(0)


def _centre(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    box = ((image.size[1] - side) // 2, (image.size[0] - side) // 2, side, side)
    return augment.crop(image, box, size)


def _crops(image: Image.Image, index: int, size: int) -> list[Image.Image]:
    rng = sample_rng(0, 0, index)
    boxes = [augment.random_box(image.size, MATCHED_SCALE, rng) for _ in range(2)]
    return [augment.crop(image, box, size) for box in boxes]


class Online:
    """Measures a method's backbone every `every` steps.

    Create it before the first step and before weights are restored: `start` is the value for
    untrained weights, or those that training starts from, as `weights` says. pool: "cls" or "mean",
    the token used; mean, std: of the pixels.
    """

    def __init__(
        self,
        method: Method,
        probe: Probe | None,
        pool: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        every: int,
        weights: str = "untrained weights",
    ) -> None:
        self.method, self.probe, self.pool, self.every = method, probe, pool, every
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self.start = self._measure(probe) if probe else 0.0
        self.weights = weights

    def sentence(self) -> str:
        """A sentence that says what will be logged; "" if nothing will."""
        if self.probe is None:
            return ""
        return (
            f"{self.probe.key}: {self.probe.description}, every {self.every} steps: "
            f"{self.start:.1f} % with {self.weights}, {self.probe.chance:.1f} % by chance"
        )

    def due(self, step: int) -> bool:
        """See `Watch.due`: it measures where a line is written anyway."""
        return False

    def recall(self, lines: Iterable[Mapping[str, float]]) -> None:
        """See `Watch.recall`; the weights that such a run started from are not read again.

        Where no line has it, the restored weights are hardly trained and are measured instead.
        """
        if self.probe is None:
            return
        logged = [line[key] for line in lines if (key := self.probe.key + START) in line]
        self.start = logged[0] if logged else self._measure(self.probe)

    def values(self, step: int, log_every: int, total_steps: int) -> dict[str, float]:
        """See `Watch.values`."""
        if self.probe is None or (step % self.every >= log_every and step != total_steps):
            return {}
        return {self.probe.key: self._measure(self.probe), self.probe.key + START: self.start}

    @torch.no_grad()
    def _measure(self, probe: Probe) -> float:
        backbone = self.method.backbone()
        modes = [(module, module.training) for module in backbone.modules()]
        backbone.eval()
        try:
            x = [self._features(backbone, view) for view in probe.pixels]
            return probe.score(torch.stack(x))
        finally:
            for module, training in modes:
                module.training = training

    def _features(self, backbone: nn.Module, pixels: Tensor) -> Tensor:
        """Float32 (N, D) of uint8 (N, 3, H, W)."""
        device = next(backbone.parameters()).device
        parts = []
        for batch in pixels.split(BATCH):
            images = (batch.float() / 255 - self.mean) / self.std
            tokens = backbone(images.to(device))
            parts.append(tokens.cls if self.pool == "cls" else tokens.patches.mean(dim=1))
        return torch.cat(parts).float()


def watch(method: Method, recipe: Recipe, dataset: ImageDataset, main: bool) -> Online:
    """The measurement for a run whose weights are untrained; none where it makes no sense.

    main: whether this process logs.
    """
    every, probe = recipe.run.watch_every, None
    if main and every and isinstance(method.backbone(), Backbone):
        probe = make_probe(dataset, recipe.backbone.image_size, IMAGES)
    if probe:
        every *= math.ceil(SHARE * _measured(probe, recipe) / (every * _trained(method, recipe)))
    pool = "mean" if "mean" in method.poolings else "cls"
    weights = "the weights it starts from" if recipe.init.source else "untrained weights"
    return Online(method, probe, pool, recipe.data.mean, recipe.data.std, every, weights)


def _measured(probe: Probe, recipe: Recipe) -> int:
    """Patches per measurement."""
    views, images = probe.pixels.shape[:2]
    return views * images * _grid(recipe)


def _trained(method: Method, recipe: Recipe) -> int:
    """Patches per step; for a method that does not say, those of one full-size view."""
    patches = method.image_tokens(recipe.method, recipe.backbone.stride) or _grid(recipe)
    return recipe.train.batch_size * patches


def _grid(recipe: Recipe) -> int:
    return (recipe.backbone.image_size // recipe.backbone.stride) ** 2
