"""Frozen features: one forward pass over a split gives every pooling a suite asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import cpu_count

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from sslbench.backbones.base import Backbone
from sslbench.benchmark import Features, FeatureSpec
from sslbench.data.dataset import BrokenImage, BrokenLog, ImageDataset
from sslbench.errors import UserError

LAYERS = 4  # blocks whose [CLS] is kept: the most any paper's protocol taps
BATCH = 128
OnProgress = Callable[[str, int, int], None]  # (what is going on, done, total)
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
    block, (N, D); y: int64 (N,); dropped: what is wrong with each image that could not be read.
    """

    cls: tuple[Tensor, ...]
    mean: Tensor
    y: Tensor
    dropped: tuple[str, ...] = ()

    def select(self, spec: FeatureSpec) -> Features:
        """The features a benchmark asked for; `layers` beyond the backbone's depth are left out."""
        if not 1 <= spec.layers <= LAYERS:
            raise ValueError(f"layers={spec.layers}: choose 1 to {LAYERS}.")
        cls = self.cls[-spec.layers :]
        pools = {"cls": cls, "mean": (self.mean,), "cls+mean": (*cls, self.mean)}
        if spec.pool not in pools:
            raise UserError(f"unknown pooling {spec.pool!r}: choose one of {', '.join(pools)}.")
        chosen = pools[spec.pool]
        return Features(chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=1), self.y)


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
    for pixels, index, bad in _batches(dataset, transform):
        seen += len(index) + len(bad)
        dropped += broken.record(index, bad, complete=seen == len(dataset))
        if index:
            images = transform.normalise(pixels.to(device, non_blocking=True))
            columns.append(pool_tokens(backbone, images, norm))
            kept += index
        on_progress(seen, len(dataset))
    warn_dropped(dataset.name, dropped)
    *cls, mean = (torch.cat(parts) for parts in zip(*columns, strict=True))
    return Bank(tuple(cls), mean, torch.from_numpy(dataset.labels[kept]), tuple(dropped))


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

    def __init__(self, dataset: ImageDataset, transform: EvalTransform) -> None:
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


def _batches(dataset: ImageDataset, transform: EvalTransform) -> Iterator[Batch]:
    """The whole split in order; small splits are read in this process, large ones by workers."""
    dataset.load()
    workers = min(8, cpu_count() or 1) if len(dataset) > 10_000 else 0
    yield from DataLoader(
        _Prepared(dataset, transform),
        batch_size=BATCH,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
    )
