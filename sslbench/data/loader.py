"""Batches of views for pretraining, the same for any number of workers, processes and restarts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslbench.data.dataset import BrokenImage, BrokenLog, ImageDataset
from sslbench.data.recolour import finished
from sslbench.data.rng import order_rng, sample_rng
from sslbench.errors import UserError
from sslbench.method import Sample, ViewBatch, Views, true_places

Key = tuple[int, int, int]  # (epoch, index, copy)
CPU = torch.device("cpu")

# At most a fifth of the files may be broken, so this many broken draws in a row never happen.
REPLACEMENTS = 64


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the order in which `epoch` visits `n` images, int64 (n,): a pure function."""
    return order_rng(seed, epoch).permutation(n)


@dataclass(frozen=True)
class Batches:
    """The micro-batches of one process, each a list of (epoch, index, copy).

    n: images in the dataset; batch_size: images per micro-batch and process; accumulate:
    micro-batches per optimiser step; start_step, total_steps: optimiser steps already done and of
    the whole run; repeats: copies of each image, in a row, in an epoch's order. Global batch s of
    an epoch is slice s of that order (the rest is dropped), sorted by copy, so that neighbours are
    different images. Process `rank` takes contiguous slice `rank` of it and divides that into
    micro-batches. So the images of an optimiser step depend only on the product of `batch_size`,
    `accumulate` and `world`.

    An epoch has as many steps with repeats as without, so it visits n / repeats images. Source of
    repeated augmentation: `RASampler`, `deit/samplers.py`, `ibot/evaluation/eval_cls.py:348`, which
    leaves out what exceeds a multiple of 256 images too.
    """

    n: int
    seed: int
    batch_size: int
    total_steps: int
    start_step: int = 0
    rank: int = 0
    world: int = 1
    accumulate: int = 1
    repeats: int = 1

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
            places = self._places(step % self.epoch_steps)
            first = self.rank * self.accumulate * self.batch_size
            for micro in range(self.accumulate):
                start = first + micro * self.batch_size
                chosen = places[start : start + self.batch_size]
                indices, copies = order[chosen // self.repeats], chosen % self.repeats
                yield [(epoch, int(i), int(c)) for i, c in zip(indices, copies, strict=True)]

    def _places(self, step: int) -> np.ndarray:
        """Return the places of a global batch in the repeated order of an epoch, by copy."""
        places = np.arange(step * self.global_batch, (step + 1) * self.global_batch)
        return places[np.argsort(places % self.repeats, kind="stable")]


@dataclass(frozen=True)
class Item:
    """One image's views. index: the image used; broken: images that it replaces, with reasons.

    sample is None if no image could be decoded.
    """

    sample: Sample | None
    index: int
    broken: Mapping[int, str]


class ViewDataset(Dataset[Item]):
    """Maps (epoch, index, copy) to the views of that image, a pure function of it and the seed.

    A broken image is replaced by another one, drawn from the random stream of the same key.
    """

    def __init__(self, dataset: ImageDataset, views: Views, seed: int) -> None:
        self.dataset, self.views, self.seed = dataset, views, seed
        self._read: Callable[[int], Any] = (
            dataset.array if getattr(views, "takes_arrays", False) else dataset.image
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Item:
        epoch, index, copy = key
        rng = sample_rng(self.seed, epoch, index, copy)
        broken: dict[int, str] = {}
        for _ in range(REPLACEMENTS):
            try:
                image = self._read(index)
            except BrokenImage as error:
                broken[index] = str(error)
                index = int(rng.integers(len(self.dataset)))
                continue
            return Item(self.views(image, rng, epoch), index, broken)
        return Item(None, index, broken)


@dataclass(frozen=True)
class Collated:
    """A batch as a worker sends it; places: `ViewBatch.masked`; complete: every image has views."""

    crops: dict[str, Tensor]
    masks: dict[str, Tensor]
    places: dict[str, Tensor]
    looks: dict[str, Tensor]
    index: Tensor
    broken: dict[int, str]
    complete: bool = True

    def pin_memory(self) -> Collated:
        """Return the batch in page-locked memory, so that copies overlap with computation."""
        crops, masks, places = (
            {name: tensor.pin_memory() for name, tensor in tensors.items()}
            for tensors in (self.crops, self.masks, self.places)
        )
        return replace(self, crops=crops, masks=masks, places=places)


def _batched(arrays: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
    """Stack B dicts of name -> (V, ...) to one of name -> (V, B, ...)."""
    return {k: torch.from_numpy(np.stack([a[k] for a in arrays], axis=1)) for k in arrays[0]}


def collate(items: Sequence[Item]) -> Collated:
    """Stack views: crops uint8 (V, B, 3, H, W), masks bool (V, B, h, w), looks, index (B,)."""
    broken = {index: text for item in items for index, text in item.broken.items()}
    index = torch.tensor([item.index for item in items])
    samples = [item.sample for item in items if item.sample is not None]
    if len(samples) < len(items):
        return Collated({}, {}, {}, {}, index, broken, complete=False)
    crops, masks = _batched([s.crops for s in samples]), _batched([s.masks for s in samples])
    places = {name: true_places(mask) for name, mask in masks.items()}
    return Collated(crops, masks, places, _batched([s.looks for s in samples]), index, broken)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _check(dataset: ImageDataset, batches: Batches) -> None:
    """Raise UserError if the dataset cannot fill a batch."""
    n = len(dataset)
    if n < 2:
        raise UserError(
            f"The dataset {dataset.name} has {n} image(s): pretraining needs 2 or more."
        )
    if batches.global_batch > n:
        raise UserError(
            f"train.batch_size={batches.global_batch} is larger than the dataset {dataset.name} "
            f"with {n} images: set it to at most {n}, or use a recipe that adapts to the data "
            "(photos/*)."
        )


class ViewLoader:
    """Iterates once over (ViewBatch, messages on newly found broken files) of one process.

    The batches are on `device`. If that is a GPU, views that can leave flips and colours for later
    do, and they are made there for whole batches; on a CPU the workers are faster at it.

    With several processes the messages come from `exchange` instead. Raises `UserError` if more
    than a fifth of the images are broken.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        views: Views,
        batches: Batches,
        workers: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device = CPU,
    ) -> None:
        _check(dataset, batches)
        self.dataset, self.batches, self.mean, self.std = dataset, batches, mean, std
        self.device = device
        if device.type == "cuda" and hasattr(views, "deferred"):
            views = views.deferred()
        self._labels = None if dataset.labels is None else torch.tensor(dataset.labels)
        self._log, self._count, self._epoch_done = BrokenLog(dataset), 0, False
        # indices and broken files that were read since the last `exchange`
        self._pending: tuple[list[int], dict[int, str]] = [], {}
        extra: dict[str, Any] = {"prefetch_factor": 4} if workers else {}
        self._loader: DataLoader[Item] = DataLoader(
            ViewDataset(dataset, views, batches.seed),
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=_one_thread,
            pin_memory=torch.cuda.is_available(),
            # its own generator, because the loader must not advance torch's global one
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
            self._pending[0].extend(batch.index.tolist())
            self._pending[1].update(batch.broken)
            messages = self.exchange() if self.batches.world == 1 else []
            if not batch.complete:
                self._log.record([], batch.broken)
                self._log.fail()
            labels = None if self._labels is None else self._labels[batch.index]
            views = ViewBatch(
                batch.crops, batch.masks, batch.index, self.mean, self.std, labels, batch.places
            )
            yield finished(views.to(self.device), batch.looks), messages

    def exchange(self) -> list[str]:
        """Return messages on the broken files that any process found since the last call.

        All processes call it after the same step and keep the same counts, so that above the limit
        all of them raise the same `UserError`.
        """
        pending = [self._pending]
        if self.batches.world > 1:
            pending *= self.batches.world
            dist.all_gather_object(pending, self._pending)
        self._pending = [], {}
        was_done, epoch = self._epoch_done, self.batches.epoch_steps * self.batches.accumulate
        # with repeats an epoch reads a sample of the images, whose broken share stays an estimate
        self._epoch_done = self._count >= epoch and self.batches.repeats == 1
        seen = [index for indices, _ in pending for index in indices]
        broken = {index: text for _, texts in pending for index, text in texts.items()}
        return self._log.record(seen, broken, complete=self._epoch_done and not was_done)


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
    repeats: int = 1,
    start_step: int = 0,
    workers: int = 0,
    device: torch.device = CPU,
) -> ViewLoader:
    """Return the loader of process `rank`; arguments as in `Batches`, mean and std per channel.

    device: where the batches are wanted.

    Raises `UserError` if the dataset has fewer images than one global batch, or only one.
    """
    batches = Batches(
        len(dataset), seed, batch_size, total_steps, start_step, rank, world, accumulate, repeats
    )
    return ViewLoader(dataset, views, batches, workers, mean, std, device)
