"""The stream of training images does not depend on processes, workers, accumulation or restarts."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.registry import DATASETS

from sslbench.benchmarks.dense import sampling
from sslbench.benchmarks.dense.runner import replace_sync_bn, shares
from sslbench.benchmarks.dense.sampling import Draw, MicroBatches, SeededDataset, StreamSampler
from sslbench.errors import UserError


@DATASETS.register_module()
class Noise:
    """Image i and a draw from each of the global generators; every third image is high."""

    metainfo = {"classes": ("a",)}

    def __init__(self, n: int) -> None:
        self.n = n

    def full_init(self) -> None: ...

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[int, float, float]:
        return index, float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    def get_data_info(self, index: int) -> dict[str, int]:
        return {"width": 2, "height": 3 if index % 3 == 0 else 2}


def dataset(n: int, seed: int = 0) -> SeededDataset:
    return SeededDataset({"type": "Noise", "n": n}, seed)


def batches(
    monkeypatch, rank: int, world: int, n=10, size=2, accumulate=1, start=0, by_aspect=False
) -> MicroBatches:
    monkeypatch.setattr(sampling, "get_dist_info", lambda: (rank, world))
    made = MicroBatches(StreamSampler(dataset(n), 0), size, accumulate, by_aspect)
    made.start = start
    return made


@given(n=st.integers(1, 30), seed=st.integers(0, 10), epochs=st.integers(1, 4))
def test_every_epoch_shows_every_image_once_in_another_order(n: int, seed: int, epochs: int):
    drawn = list(islice(StreamSampler(dataset(n), seed), n * epochs))
    assert [d.position for d in drawn] == list(range(n * epochs))
    for epoch in range(epochs):
        assert sorted(d.index for d in drawn[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_epochs_and_seeds_differ():
    first, second = (list(islice(StreamSampler(dataset(50), seed), 100)) for seed in (0, 1))
    assert [d.index for d in first[:50]] != [d.index for d in first[50:]]
    assert first != second


@pytest.mark.parametrize("by_aspect", [False, True])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_micro_batches_of_one(monkeypatch, world: int, by_aspect: bool):
    alone = list(islice(batches(monkeypatch, 0, 1, by_aspect=by_aspect), 4 * world))
    shared = [
        list(islice(batches(monkeypatch, rank, world, by_aspect=by_aspect), 4))
        for rank in range(world)
    ]
    assert [batch for together in zip(*shared, strict=True) for batch in together] == alone


def test_starting_later_goes_on_with_the_same_batches(monkeypatch):
    for rank in range(2):
        whole = list(islice(batches(monkeypatch, rank, 2), 10))
        assert list(islice(batches(monkeypatch, rank, 2, start=8), 6)) == whole[4:]


def test_micro_batches_of_one_orientation(monkeypatch):
    found = batches(monkeypatch, 0, 1, n=30, size=4, by_aspect=True)
    drawn = list(islice(found, 40))
    assert all(len({d.index % 3 == 0 for d in batch}) == 1 for batch in drawn)
    counts = Counter(d.index for batch in drawn for d in batch)
    assert len(counts) == 30


def test_length_counts_optimiser_steps(monkeypatch):
    assert len(batches(monkeypatch, 0, 1, n=10, size=2)) == 5
    assert len(batches(monkeypatch, 0, 2, n=10, size=2, accumulate=2)) == 2


def test_a_sample_depends_on_its_position_alone():
    data = dataset(10)
    once = data[Draw(3, 7)]
    data[Draw(5, 1)], data[Draw(4, 7)]
    assert data[Draw(3, 7)] == once
    assert data[Draw(4, 7)][1:] != once[1:]
    assert dataset(10, seed=1)[Draw(3, 7)][1:] != once[1:]


def test_a_sample_of_a_worker_is_that_of_the_process(monkeypatch):
    sampler = batches(monkeypatch, 0, 1)
    first = [
        [
            row
            for _, row in zip(
                range(5),
                torch.utils.data.DataLoader(
                    sampler.sampler.dataset, batch_sampler=sampler, num_workers=workers
                ),
                strict=False,
            )
        ]
        for workers in (0, 2)
    ]
    for alone, worker in zip(*first, strict=True):
        for a, b in zip(alone, worker, strict=True):
            assert torch.equal(a, b)


@given(micro=st.integers(1, 16), world=st.sampled_from([1, 2, 4, 8]), factor=st.integers(1, 8))
def test_shares_multiply_to_the_total(micro: int, world: int, factor: int):
    total = world * factor
    size, accumulate = shares(total, micro, world)
    assert size * accumulate * world == total
    assert size <= micro


def test_a_total_that_cannot_be_shared_is_named():
    with pytest.raises(UserError, match=r"16 images per optimiser step .* 3 processes"):
        shares(16, 4, 3)


def test_sync_bn_is_replaced_wherever_it_stands():
    config = {"norm_cfg": {"type": "SyncBN"}, "heads": [{"norm_cfg": {"type": "SyncBN", "x": 1}}]}
    replace_sync_bn(config)
    assert config == {"norm_cfg": {"type": "BN"}, "heads": [{"norm_cfg": {"type": "BN", "x": 1}}]}
