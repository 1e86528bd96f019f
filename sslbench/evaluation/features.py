"""Frozen features: one forward pass over a split gives all poolings of a suite."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslbench.backbones.base import Backbone, Tokens
from sslbench.benchmark import UNNORMED, Features, FeatureSpec
from sslbench.data.dataset import BrokenImage, BrokenLog, ImageDataset
from sslbench.data.transform import EvalTransform
from sslbench.errors import UserError, nearest
from sslbench.system.machine import usable_cores
from sslbench.system.products import FastProducts

POOLS = ("cls", "mean", UNNORMED, "cls+mean")
LAYERS = 4  # last blocks whose [CLS] is kept: no paper's protocol uses more
BATCH, CPU_BATCH = 128, 16  # images in a pass; a CPU reads more a second in smaller ones
CPU_FEW = 10_000  # images that a machine without a GPU reads without workers
MOST_WORKERS = 8
OnProgress = Callable[[str, int, int], None]  # (activity, done, total)
Transform = Callable[[Image.Image], Tensor]  # to uint8 (3, H, W)
log = logging.getLogger(__name__)


def silent(what: str, done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Bank:
    """The pooled tokens of one split, float32 on the CPU, in dataset order.

    cls: [CLS] of the last blocks, first to last, each (N, D_i), all through the final norm or none;
    mean, unnormed: mean patch token of the last block after and before the final norm, (N, D);
    y: int64 (N,); index: int64 (N,), positions in the dataset; dropped: error message of each image
    that could not be read; origin: code, libraries, hardware, date and seconds of the computation.
    """

    cls: tuple[Tensor, ...]
    mean: Tensor
    unnormed: Tensor
    y: Tensor
    index: Tensor
    dropped: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    def select(self, spec: FeatureSpec) -> Features:
        """Return the features of `spec`; `layers` beyond the backbone's depth are left out.

        The bank must be one whose [CLS] have gone through the final norm as `spec.cls_normed` says.
        """
        check_spec(spec)
        mean = self.mean if spec.normed else self.unnormed
        return Features(combine(self.cls[-spec.layers :], mean, spec), self.y, self.index)


def check_spec(spec: FeatureSpec) -> None:
    """Raises UserError for features that no bank holds."""
    if spec.pool not in POOLS:
        raise UserError(f"unknown pooling {spec.pool!r}: {nearest(str(spec.pool), POOLS)}.")
    if not 1 <= spec.layers <= LAYERS:
        raise UserError(
            f"layers={spec.layers} is not between 1 and {LAYERS}; choose such a number."
        )


def combine(cls: Sequence[Tensor], mean: Tensor, spec: FeatureSpec) -> Tensor:
    """Return the pooled tokens that `spec` names, concatenated, (N, D).

    cls: [CLS] of the blocks, first to last, each (N, D_i); mean: mean patch of the last, (N, D).
    """
    check_spec(spec)
    pools = {"cls": (*cls,), "mean": (mean,), UNNORMED: (mean,), "cls+mean": (*cls, mean)}
    if spec.pool == "cls+mean" and spec.order == "interleaved":
        if len(cls) != 1:
            raise ValueError(f"{len(cls)} blocks: only one block's tokens can be interleaved")
        return torch.stack([cls[0], mean], dim=2).flatten(1)
    parts = pools[spec.pool]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def extract(
    backbone: Backbone,
    dataset: ImageDataset,
    transform: EvalTransform,
    cls_normed: bool,
    device: torch.device,
    on_progress: Callable[[int, int], None],
    bf16: bool = False,
) -> Bank:
    """Run `backbone` over `dataset` and pool its last blocks: in float32, or autocast to bf16.

    cls_normed: whether [CLS] is kept after the final norm or before it; the mean patch is both.
    Images that cannot be read are dropped and logged; more than a fifth of them is a UserError.
    Labels are -1 where the dataset has none.
    """
    backbone = backbone.to(device).eval()
    broken = BrokenLog(dataset)
    dropped: list[str] = []
    columns: list[list[Tensor]] = []
    kept: list[int] = []
    seen = 0
    for pixels, readable, errors in batches(dataset, transform):
        seen += len(readable) + len(errors)
        dropped += broken.record(readable, errors, complete=seen == len(dataset))
        if readable:
            images = transform.normalise(pixels.to(device, non_blocking=True))
            columns.append(pool_tokens(backbone, images, cls_normed, bf16))
            kept += readable
        on_progress(seen, len(dataset))
    warn_dropped(dataset.name, dropped)
    *cls, mean, unnormed = (torch.cat(parts) for parts in zip(*columns, strict=True))
    index = torch.tensor(kept)
    y = (
        torch.from_numpy(dataset.labels)[index]
        if dataset.labels is not None
        else -torch.ones_like(index)
    )
    return Bank(tuple(cls), mean, unnormed, y, index, tuple(dropped))


@torch.no_grad()
def tap(backbone: Backbone, images: Tensor, spec: FeatureSpec) -> Tensor:
    """Return the features of a batch for `spec`, float32 (B, D) on the images' device."""
    blocks = tap_blocks(backbone, images, spec.layers, spec.normed)
    return combine([b.cls for b in blocks], blocks[-1].patches.mean(dim=1), spec).float()


@torch.no_grad()
def tap_blocks(backbone: Backbone, images: Tensor, n: int, normed: bool) -> list[Tokens]:
    """Return the tokens of the last `n` blocks, first to last, through the final norm or not."""
    with FastProducts():
        blocks = backbone.last_blocks(images, n)
        return [backbone.normed(tokens) for tokens in blocks] if normed else blocks


@torch.inference_mode()
def pool_tokens(
    backbone: Backbone, images: Tensor, cls_normed: bool, bf16: bool = False
) -> list[Tensor]:
    """Return [CLS] of the last blocks, then the mean patch of the last one, each float32 (B, D).

    cls_normed: whether [CLS] is that after the final norm or before it; the mean patch is returned
    after it, then before it.
    """
    with FastProducts(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        blocks = backbone.last_blocks(images, LAYERS)
        normed = [backbone.normed(tokens) for tokens in blocks]
    cls = [tokens.cls for tokens in (normed if cls_normed else blocks)]
    means = [tokens.patches.mean(dim=1) for tokens in (normed[-1], blocks[-1])]
    # copied, as a view of [CLS] would keep all tokens of its block in memory
    return [x.to("cpu", torch.float32, copy=True) for x in (*cls, *means)]


def warn_dropped(name: str, dropped: Sequence[str]) -> None:
    """Log how many images were left out, and name the first of them."""
    if dropped:
        first = "; ".join(dropped[:3])
        log.warning("%s: %d broken image(s) left out (first: %s).", name, len(dropped), first)


Batch = tuple[Tensor, list[int], dict[int, str]]  # pixels, their indices, index -> error message


class _Prepared(Dataset[tuple[int, "Tensor | str"]]):
    """Maps index to (index, uint8 (3, H, W) or an error message)."""

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
    images = {index: x for index, x in items if isinstance(x, Tensor)}
    errors = {index: x for index, x in items if isinstance(x, str)}
    return torch.stack(list(images.values())) if images else torch.empty(0), list(images), errors


def batch_size() -> int:
    """Return the number of images in a pass: more on a GPU."""
    return BATCH if torch.cuda.is_available() else CPU_BATCH


def workers_for(images: int, batch: int) -> int:
    """Return the number of processes that read `images` in batches of `batch`; 0: this one does.

    Beside a GPU they read while it computes, which pays for their start from the third batch on. On
    a CPU the forward pass has the cores, so that they pay for many images only.
    """
    few = 2 * batch if torch.cuda.is_available() else CPU_FEW
    return min(MOST_WORKERS, usable_cores(), math.ceil(images / batch)) if images > few else 0


def batches(
    dataset: ImageDataset, transform: Transform, indices: Sequence[int] | None = None
) -> Iterator[Batch]:
    """Yield the whole split in order, or the images at `indices`."""
    dataset.load()
    size = batch_size()
    yield from DataLoader(
        _Prepared(dataset, transform),
        batch_size=size,
        sampler=indices,
        num_workers=workers_for(len(dataset if indices is None else indices), size),
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
    )
