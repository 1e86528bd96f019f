"""Which images the detectors and segmenters train on, as a pure function of (seed, position).

mm's samplers hand every process another part of the data and its transforms draw from global
generators, so their runs depend on the number of processes, of workers, and on restarts. Here the
training set is one endless stream: position p is image perm(p // N)[p % N], drawn with a generator
seeded by (seed, p), and micro-batch m goes to process m % world, whatever the number of processes.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Dataset, Sampler

from sslbench.data.rng import order_rng, sample_rng
from sslbench.errors import UserError


class Draw(NamedTuple):
    """One sample of the stream: its position and the image drawn for it."""

    position: int
    index: int


def seed_everything(seed: int, number: int, purpose: int) -> None:
    """Sets the global generators of Python, NumPy and torch from a counter.

    purpose keeps data (0) and model (1) apart where both have the same `number`.
    """
    draw = int(sample_rng(seed, purpose, number).integers(2**31))
    random.seed(draw)
    np.random.seed(draw)  # noqa: NPY002 (mm's transforms draw from the global generator)
    torch.manual_seed(draw)


def _built(dataset: dict[str, Any]) -> Any:
    """The mm dataset; UserError where its filter leaves no image, over which mm stumbles."""
    try:
        return DATASETS.build(dataset)
    except ValueError as error:
        if len(DATASETS.build({**dataset, "serialize_data": False})):
            raise
        raise UserError(
            f"no image of {dataset.get('ann_file')} is left to train on: the config's filter_cfg "
            f"({dict(dataset.get('filter_cfg') or {})}) leaves out all of them."
        ) from error


@DATASETS.register_module()
class SeededDataset(Dataset):
    """An mm dataset whose random transforms are a function of (seed, position)."""

    def __init__(self, dataset: dict[str, Any], seed: int) -> None:
        self.dataset, self.seed = _built(dataset), seed

    def full_init(self) -> None:
        self.dataset.full_init()

    @property
    def metainfo(self) -> dict[str, Any]:
        return self.dataset.metainfo

    def is_wide(self, index: int) -> bool:
        """Whether image `index` is at least as wide as high, by its annotation."""
        info = self.dataset.get_data_info(index)
        return info["width"] >= info["height"]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> Any:
        seed_everything(self.seed, draw.position, purpose=0)
        return self.dataset[draw.index]


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler[Draw]):
    """The endless stream of draws: one permutation of the images after the other."""

    def __init__(self, dataset: SeededDataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __iter__(self) -> Iterator[Draw]:
        epoch, n = 0, len(self.dataset)
        while True:
            order = order_rng(self.seed, epoch).permutation(n)
            yield from (Draw(epoch * n + i, int(index)) for i, index in enumerate(order))
            epoch += 1

    def __len__(self) -> int:
        return len(self.dataset)


@DATA_SAMPLERS.register_module()
class MicroBatches(Sampler[list[Draw]]):
    """The stream cut into micro-batches, of which process r of w gets numbers r, r + w, ...

    accumulate: micro-batches a process sums per optimiser step, hence `len` is the number of
    optimiser steps that see as many images as the set has. by_aspect: all images of a micro-batch
    are wide or all are high, which saves padding (mmdet's AspectRatioBatchSampler).
    start: number of the first micro-batch, set before iterating to resume a run.
    """

    def __init__(
        self, sampler: StreamSampler, batch_size: int, accumulate: int, by_aspect: bool = False
    ) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self.accumulate, self.by_aspect = accumulate, by_aspect
        self.rank, self.world = get_dist_info()
        self.start = 0

    @property
    def step_size(self) -> int:
        """Micro-batches of one optimiser step over all processes."""
        return self.accumulate * self.world

    def __iter__(self) -> Iterator[list[Draw]]:
        for number, batch in enumerate(self._batches()):
            if number >= self.start and number % self.world == self.rank:
                yield batch

    def __len__(self) -> int:
        return -(-len(self.sampler) // (self.batch_size * self.step_size))

    def _batches(self) -> Iterator[list[Draw]]:
        groups: dict[bool, list[Draw]] = defaultdict(list)
        for draw in self.sampler:
            group = groups[self.by_aspect and self.sampler.dataset.is_wide(draw.index)]
            group.append(draw)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()
