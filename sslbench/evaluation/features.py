"""Frozen features: one forward pass over a split gives every pooling a suite asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from sslbench.backbones.base import Backbone
from sslbench.benchmark import UNNORMED, Features, FeatureSpec
from sslbench.checkpoints.load import LoadedModel
from sslbench.data.dataset import BrokenImage, BrokenLog, ImageDataset
from sslbench.errors import UserError
from sslbench.system.machine import usable_cores

LAYERS = 4  # blocks whose [CLS] is kept: the most any paper's protocol taps
BATCH = 128
OnProgress = Callable[[str, int, int], None]  # (what is going on, done, total)
Transform = Callable[[Image.Image], Tensor]  # to uint8 (3, H, W)
log = logging.getLogger(__name__)


def silent(what: str, done: int, total: int) -> None:
    """Reports progress to nobody."""


@dataclass(frozen=True)
class EvalTransform:
    """Shorter side to round(size / crop_ratio), bicubic, then the centre crop of size x size.

    224 px and .875 give the papers' Resize(256) + CenterCrop(224). mean and std are the model's
    own. Source: `dino/eval_knn.py:30-60` (recipe trap T45: bicubic, not bilinear).
    """

    size: int
    crop_ratio: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, model: LoadedModel, dataset: ImageDataset) -> EvalTransform:
        """How the images of `dataset` are shown to `model`."""
        return cls(model.image_size, dataset.crop_ratio, tuple(model.mean), tuple(model.std))

    def __call__(self, image: Image.Image) -> Tensor:
        """uint8 (3, size, size)."""
        side = round(self.size / self.crop_ratio)
        if min(image.size) != side:
            image = F.resize(image, [side], InterpolationMode.BICUBIC)
        if image.size != (self.size, self.size):
            image = F.center_crop(image, [self.size, self.size])
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> float32, on the pixels' device."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std


@dataclass(frozen=True)
class Bank:
    """The pooled tokens of one split, float32 on the CPU, in dataset order.

    cls: [CLS] of the last blocks, first to last, each (N, D_i); mean: mean patch token of the last
    block, (N, D); y: int64 (N,); index: int64 (N,), positions in the dataset; dropped: what is
    wrong with each image that could not be read; origin: the code, libraries and hardware that
    computed them, when and in how many seconds.
    """

    cls: tuple[Tensor, ...]
    mean: Tensor
    y: Tensor
    index: Tensor
    dropped: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    def select(self, spec: FeatureSpec) -> Features:
        """The features a benchmark asked for; `layers` beyond the backbone's depth are left out."""
        if not 1 <= spec.layers <= LAYERS:
            raise ValueError(f"layers={spec.layers}: choose 1 to {LAYERS}.")
        x = combine(self.cls[-spec.layers :], self.mean, spec)
        return Features(x, self.y, self.index)


def combine(cls: Sequence[Tensor], mean: Tensor, spec: FeatureSpec) -> Tensor:
    """The pooled tokens that `spec` names side by side, (N, D).

    cls: [CLS] of the blocks, first to last, each (N, D_i); mean: mean patch of the last, (N, D).
    """
    pools = {"cls": (*cls,), "mean": (mean,), UNNORMED: (mean,), "cls+mean": (*cls, mean)}
    if spec.pool not in pools:
        raise UserError(f"unknown pooling {spec.pool!r}: choose one of {', '.join(pools)}.")
    if spec.pool == "cls+mean" and spec.order == "interleaved":
        if len(cls) != 1:
            raise ValueError(f"{len(cls)} blocks: [CLS] and mean patch of one can be interleaved")
        return torch.stack([cls[0], mean], dim=2).flatten(1)
    chosen = pools[spec.pool]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=1)


def extract(
    backbone: Backbone,
    dataset: ImageDataset,
    transform: EvalTransform,
    norm: bool,
    device: torch.device,
    on_progress: Callable[[int, int], None],
) -> Bank:
    """Runs `backbone` over `dataset` in float32 and pools its last blocks.

    Broken images are dropped and named; more than a fifth of them, or no labels, is a UserError.
    """
    if dataset.labels is None or not len(dataset):
        raise UserError(f"{dataset.name!r} has no labelled images; the benchmarks need some.")
    backbone = backbone.to(device).eval()
    broken = BrokenLog(dataset)
    dropped: list[str] = []
    columns: list[list[Tensor]] = []
    kept: list[int] = []
    seen = 0
    for pixels, good, bad in batches(dataset, transform):
        seen += len(good) + len(bad)
        dropped += broken.record(good, bad, complete=seen == len(dataset))
        if good:
            images = transform.normalise(pixels.to(device, non_blocking=True))
            columns.append(pool_tokens(backbone, images, norm))
            kept += good
        on_progress(seen, len(dataset))
    warn_dropped(dataset.name, dropped)
    *cls, mean = (torch.cat(parts) for parts in zip(*columns, strict=True))
    y, index = torch.from_numpy(dataset.labels[kept]), torch.tensor(kept)
    return Bank(tuple(cls), mean, y, index, tuple(dropped))


@torch.no_grad()
def tap(backbone: Backbone, images: Tensor, spec: FeatureSpec) -> Tensor:
    """The features of a batch that `spec` names, float32 (B, D) on the images' device."""
    blocks = backbone.intermediate(images, min(spec.layers, backbone.depth), spec.normed)
    return combine([b.cls for b in blocks], blocks[-1].patches.mean(dim=1), spec).float()


@torch.inference_mode()
def pool_tokens(backbone: Backbone, images: Tensor, norm: bool) -> list[Tensor]:
    """[CLS] of the last blocks, then the mean patch of the last one: each float32 (B, D)."""
    blocks = backbone.intermediate(images, min(LAYERS, backbone.depth), norm)
    pooled = [*(tokens.cls for tokens in blocks), blocks[-1].patches.mean(dim=1)]
    return [x.float().cpu() for x in pooled]


def warn_dropped(name: str, dropped: Sequence[str]) -> None:
    """Says how many images were left out, and the first of them by name."""
    if dropped:
        first = "; ".join(dropped[:3])
        log.warning("%s: %d broken image(s) left out (first: %s).", name, len(dropped), first)


Batch = tuple[Tensor, list[int], dict[int, str]]  # pixels, their indices, broken ones


class _Prepared(Dataset[tuple[int, "Tensor | str"]]):
    """index -> (index, uint8 (3, H, W) or what is wrong with the file)."""

    def __init__(self, dataset: ImageDataset, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            return index, self.transform(self.dataset.image(index))
        except BrokenImage as error:
            return index, str(error)


def _collate(items: list[tuple[int, Tensor | str]]) -> Batch:
    good = {index: x for index, x in items if isinstance(x, Tensor)}
    bad = {index: x for index, x in items if isinstance(x, str)}
    return torch.stack(list(good.values())) if good else torch.empty(0), list(good), bad


def workers_for(dataset: ImageDataset) -> int:
    """Processes that read `dataset`: 0, i.e. this one, for a small one."""
    return min(8, usable_cores()) if len(dataset) > 10_000 else 0


def batches(dataset: ImageDataset, transform: Transform) -> Iterator[Batch]:
    """The whole split in order."""
    dataset.load()
    yield from DataLoader(
        _Prepared(dataset, transform),
        batch_size=BATCH,
        num_workers=workers_for(dataset),
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
    )
