"""Batches of views for pretraining, the same for any number of workers, processes and restarts."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslbench.data.dataset import BrokenImage, BrokenLog, ImageDataset
from sslbench.data.rng import order_rng, sample_rng
from sslbench.errors import UserError
from sslbench.method import Sample, ViewBatch, Views

Key = tuple[int, int]  # (epoch, index)

# At most a fifth of the files may be broken: so many in a row never happen below that limit.
REPLACEMENTS = 64


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order in which `epoch` visits `n` images, int64 (n,): a pure function."""
    return order_rng(seed, epoch).permutation(n)


@dataclass(frozen=True)
class Batches:
    """The micro-batches of one process, each a list of (epoch, index).

    n: images in the dataset; batch_size: images per micro-batch and process; accumulate:
    micro-batches per optimiser step; start_step, total_steps: optimiser steps already done and of
    the whole run. Global batch s of an epoch is slice s of its order (the rest is dropped); process
    `rank` takes the contiguous slice `rank` of it, and its micro-batches are slices of that, so the
    images of an optimiser step do not depend on `world` and `accumulate` if their product with
    `batch_size` stays the same.
    """

    n: int
    seed: int
    batch_size: int
    total_steps: int
    start_step: int = 0
    rank: int = 0
    world: int = 1
    accumulate: int = 1

    @property
    def global_batch(self) -> int:
        """Images per optimiser step over all processes."""
        return self.batch_size * self.accumulate * self.world

    @property
    def epoch_steps(self) -> int:
        """Optimiser steps per epoch."""
        return self.n // self.global_batch

    def __len__(self) -> int:
        return max(0, self.total_steps - self.start_step) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start_step, self.total_steps):
            if epoch != step // self.epoch_steps:
                epoch = step // self.epoch_steps
                order = epoch_order(self.seed, epoch, self.n)
            first = step % self.epoch_steps * self.global_batch
            first += self.rank * self.accumulate * self.batch_size
            for micro in range(self.accumulate):
                start = first + micro * self.batch_size
                yield [(epoch, int(i)) for i in order[start : start + self.batch_size]]


@dataclass(frozen=True)
class Item:
    """One image's views; `index` is the image shown, `broken` those it had to stand in for.

    sample is None when no image could be decoded.
    """

    sample: Sample | None
    index: int
    broken: Mapping[int, str]


class ViewDataset(Dataset[Item]):
    """(epoch, index) -> the views of that image, a pure function of (seed, epoch, index).

    A broken image is replaced by another one drawn from its own random stream.
    """

    def __init__(self, dataset: ImageDataset, views: Views, seed: int) -> None:
        self.dataset, self.views, self.seed = dataset, views, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        rng = sample_rng(self.seed, epoch, index)
        broken: dict[int, str] = {}
        for _ in range(REPLACEMENTS):
            try:
                image = self.dataset.image(index)
            except BrokenImage as error:
                broken[index] = str(error)
                index = int(rng.integers(len(self.dataset)))
                continue
            return Item(self.views(image, rng, epoch), index, broken)
        return Item(None, index, broken)


@dataclass(frozen=True)
class Collated:
    """A batch as it travels from a worker; `whole` is False when an image has no views."""

    crops: dict[str, Tensor]
    masks: dict[str, Tensor]
    index: Tensor
    broken: dict[int, str]
    whole: bool = True

    def pin_memory(self) -> Collated:
        """Page-locked copies of the crops and masks, for copies that overlap with computing."""
        crops = {name: crop.pin_memory() for name, crop in self.crops.items()}
        masks = {name: mask.pin_memory() for name, mask in self.masks.items()}
        return Collated(crops, masks, self.index, self.broken, self.whole)


def _batched(arrays: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
    """B times name -> (V, ...) to name -> (V, B, ...)."""
    return {k: torch.from_numpy(np.stack([a[k] for a in arrays], axis=1)) for k in arrays[0]}


def collate(items: Sequence[Item]) -> Collated:
    """Stacks views: crops uint8 (V, B, 3, H, W), masks bool (V, B, h, w), index (B,)."""
    broken = {index: text for item in items for index, text in item.broken.items()}
    index = torch.tensor([item.index for item in items])
    samples = [item.sample for item in items if item.sample is not None]
    if len(samples) < len(items):
        return Collated({}, {}, index, broken, whole=False)
    crops, masks = _batched([s.crops for s in samples]), _batched([s.masks for s in samples])
    return Collated(crops, masks, index, broken)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _check(dataset: ImageDataset, batches: Batches) -> None:
    """Raises UserError when the dataset cannot fill a batch."""
    n = len(dataset)
    if n < 2:
        raise UserError(
            f"The dataset {dataset.name} has {n} image(s): pretraining needs 2 or more."
        )
    if batches.global_batch > n:
        raise UserError(
            f"train.batch_size={batches.global_batch} is larger than the dataset {dataset.name} "
            f"with {n} images: set it to at most {n}, or take a recipe that fits itself to the "
            "data (photos/*)."
        )


class ViewLoader:
    """Iterates over the (ViewBatch, names of newly met broken files) of one process, once.

    Of several processes none knows what the others meet: their names come from `exchange`.
    Raises `UserError` when more than a fifth of the images turn out to be broken.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        views: Views,
        batches: Batches,
        workers: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        _check(dataset, batches)
        self.dataset, self.batches, self.mean, self.std = dataset, batches, mean, std
        self._log, self._count, self._passed = BrokenLog(dataset), 0, False
        self._met: tuple[list[int], dict[int, str]] = [], {}
        extra: dict[str, Any] = {"prefetch_factor": 4} if workers else {}
        self._loader: DataLoader[Item] = DataLoader(
            ViewDataset(dataset, views, batches.seed),
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=_one_thread,
            pin_memory=torch.cuda.is_available(),
            # A generator of its own: the loader must not advance torch's global one.
            generator=torch.Generator(),
            **extra,
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Generator[tuple[ViewBatch, list[str]], None, None]:
        self.dataset.load()
        batch: Collated
        for batch in self._loader:
            self._count += 1
            self._met[0].extend(batch.index.tolist())
            self._met[1].update(batch.broken)
            fresh = self.exchange() if self.batches.world == 1 else []
            if not batch.whole:
                self._log.record([], batch.broken)
                self._log.fail()
            yield (
                ViewBatch(batch.crops, batch.masks, batch.index, self.mean, self.std),
                fresh,
            )

    def exchange(self) -> list[str]:
        """Names of the broken files that any process has met since the last call.

        All processes call it after the same step and keep the same account, so that above the limit
        all of them raise the same `UserError`.
        """
        met = [self._met]
        if self.batches.world > 1:
            met *= self.batches.world
            dist.all_gather_object(met, self._met)
        self._met = [], {}
        before, epoch = self._passed, self.batches.epoch_steps * self.batches.accumulate
        self._passed = self._count >= epoch
        seen = [index for indices, _ in met for index in indices]
        broken = {index: text for _, texts in met for index, text in texts.items()}
        return self._log.record(seen, broken, complete=self._passed and not before)


def make_loader(
    dataset: ImageDataset,
    views: Views,
    seed: int,
    batch_size: int,
    total_steps: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    rank: int = 0,
    world: int = 1,
    accumulate: int = 1,
    start_step: int = 0,
    workers: int = 0,
) -> ViewLoader:
    """The loader of process `rank`; arguments as in `Batches`, mean and std per channel.

    Raises `UserError` when the dataset has fewer images than one global batch, or only one.
    """
    batches = Batches(
        len(dataset), seed, batch_size, total_steps, start_step, rank, world, accumulate
    )
    return ViewLoader(dataset, views, batches, workers, mean, std)
