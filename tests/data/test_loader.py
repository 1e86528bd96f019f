import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslbench.data.dataset import ArrayImages
from sslbench.data.images import open_dataset
from sslbench.data.loader import Batches, epoch_order, make_loader
from sslbench.data.views import MaskConfig, MultiCrop, MultiCropConfig, PlainCrop, PlainCropConfig
from sslbench.errors import UserError

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
VIEWS = MultiCrop(
    MultiCropConfig(global_size=16, local_size=8, local_crops=2), 4, MaskConfig(ratios=((0.3, 0),))
)
PLAIN = PlainCrop(PlainCropConfig(size=8))


def images(n):
    pixels = np.random.default_rng(0).integers(0, 256, (n, 12, 12, 3), dtype=np.uint8)
    return ArrayImages(pixels=pixels, name="noise", split="train", names=[str(k) for k in range(n)])


def loader(dataset, views=PLAIN, batch_size=4, total_steps=4, **options):
    return make_loader(dataset, views, 0, batch_size, total_steps, mean=MEAN, std=STD, **options)


def test_order_is_a_pure_permutation():
    assert np.array_equal(epoch_order(1, 2, 50), epoch_order(1, 2, 50))
    assert sorted(epoch_order(1, 2, 50)) == list(range(50))
    assert not np.array_equal(epoch_order(1, 2, 50), epoch_order(1, 3, 50))


@given(st.integers(2, 60), st.integers(1, 8), st.integers(0, 9))
@settings(max_examples=40)
def test_an_epoch_meets_every_index_at_most_once_and_drops_the_rest(n, batch, seed):
    batch = min(batch, n)
    steps = n // batch
    keys = list(itertools.chain(*Batches(n, seed, batch, 2 * steps)))
    for epoch in (0, 1):
        met = [i for e, i, copy in keys if (e, copy) == (epoch, 0)]
        assert len(met) == len(set(met)) == steps * batch


@given(st.integers(16, 60), st.sampled_from([(1, 1, 8), (2, 1, 4), (1, 2, 4), (2, 4, 1)]))
@settings(max_examples=30)
def test_steps_do_not_depend_on_processes_and_accumulation(n, layout):
    world, accumulate, size = layout
    whole = list(Batches(n, 0, 8, 7))
    ranks = [
        list(Batches(n, 0, size, 7, rank=r, world=world, accumulate=accumulate))
        for r in range(world)
    ]
    for step in range(7):
        parts = [rank[step * accumulate + a] for rank in ranks for a in range(accumulate)]
        assert list(itertools.chain(*parts)) == whole[step]


@given(st.integers(8, 40), st.integers(0, 12), st.integers(1, 2))
@settings(max_examples=30)
def test_a_resumed_run_is_the_tail_of_the_uninterrupted_one(n, start, accumulate):
    whole = Batches(n, 0, 4, 12, accumulate=accumulate)
    tail = Batches(n, 0, 4, 12, start_step=start, accumulate=accumulate)
    assert list(tail) == list(whole)[start * accumulate :]
    assert len(tail) == len(list(tail))


def ra_sampler(order, repeats, world, batch_size):
    """The batches of each process in an epoch: `RASampler`, deit/samplers.py:8-60, drop_last."""
    indices = [i for i in order for _ in range(repeats)]
    indices += indices[: -len(indices) % world]
    selected = len(order) // 256 * 256 // world
    parts = [indices[rank::world][:selected] for rank in range(world)]
    starts = range(0, selected - batch_size + 1, batch_size)
    return [[part[start : start + batch_size] for start in starts] for part in parts]


@pytest.mark.parametrize("repeats", [1, 2, 3, 5])
@pytest.mark.parametrize(("world", "batch_size"), [(1, 128), (4, 32), (8, 32)])
def test_repeated_images_are_those_of_the_official_sampler(repeats, world, batch_size):
    n = 1100
    theirs = ra_sampler(epoch_order(3, 1, n).tolist(), repeats, world, batch_size)
    steps = n // (world * batch_size)
    assert [len(part) for part in theirs] == [steps] * world
    ours = [
        list(Batches(n, 3, batch_size, 2 * steps, steps, rank, world, repeats=repeats))
        for rank in range(world)
    ]
    for step in range(steps):
        met = Counter(i for part in ours for _, i, _ in part[step])
        assert met == Counter(i for part in theirs for i in part[step])


@given(
    st.integers(8, 60),
    st.integers(2, 9),
    st.sampled_from([(1, 1, 8), (2, 1, 4), (1, 2, 4), (2, 4, 1)]),
    st.integers(0, 6),
)
@settings(max_examples=40)
def test_repeated_images_are_the_same_on_any_layout_and_resumed(n, repeats, layout, start):
    world, accumulate, size = layout
    whole = list(Batches(n, 0, 8, 7, repeats=repeats))
    ranks = [
        list(Batches(n, 0, size, 7, start, r, world, accumulate, repeats)) for r in range(world)
    ]
    for step in range(7 - start):
        parts = [rank[step * accumulate + a] for rank in ranks for a in range(accumulate)]
        assert list(itertools.chain(*parts)) == whole[start + step]


@given(st.integers(8, 60), st.integers(2, 9))
@settings(max_examples=30)
def test_every_copy_of_an_image_is_met_at_most_once_and_neighbours_differ(n, repeats):
    steps = n // 8
    batches = list(Batches(n, 0, 8, steps, repeats=repeats))
    keys = list(itertools.chain(*batches))
    assert len(keys) == len(set(keys)) == steps * 8
    assert len({i for _, i, _ in keys}) == -(-steps * 8 // repeats)
    for batch in batches:
        copies = [copy for *_, copy in batch]
        assert copies == sorted(copies)
        for copy in set(copies):
            same_copy = [i for _, i, c in batch if c == copy]
            assert len(same_copy) == len(set(same_copy))


def contents(batches):
    return [
        (b.index.tolist(), {k: v.clone() for k, v in (*b.crops.items(), *b.masks.items())}, broken)
        for b, broken in batches
    ]


def same(first, second):
    return len(first) == len(second) and all(
        a[0] == b[0] and a[2] == b[2] and all(torch.equal(a[1][k], b[1][k]) for k in a[1])
        for a, b in zip(first, second, strict=True)
    )


def test_batches_have_the_contracts_shapes():
    batch, broken = next(iter(loader(images(10), VIEWS)))
    assert batch.crops["global"].shape == (2, 4, 3, 16, 16)
    assert batch.crops["local"].shape == (2, 4, 3, 8, 8)
    assert batch.crops["local"].dtype == torch.uint8
    assert batch.masks["global"].shape == (2, 4, 4, 4) and batch.masks["global"].dtype == torch.bool
    assert len(batch) == 4 and broken == [] and batch.mean == MEAN


def test_images_are_normalised_and_crops_stay_as_they_are():
    batch, _ = next(iter(loader(images(10), VIEWS)))
    before = batch.crops["local"].clone()
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    assert torch.equal(batch.images("local"), (before.float() / 255 - mean) / std)
    assert torch.equal(batch.pixels("local"), before.float() / 255)
    assert torch.equal(batch.crops["local"], before)


def test_any_number_of_workers_gives_the_same_bits(make_folder):
    names = [f"{k:02d}.png" for k in range(20)]
    dataset = open_dataset(make_folder(names, broken=[names[7]]))
    runs = [
        contents(loader(dataset, VIEWS, total_steps=7, workers=workers)) for workers in (0, 1, 2)
    ]
    assert same(runs[0], runs[1]) and same(runs[0], runs[2])
    resumed = contents(loader(dataset, VIEWS, total_steps=7, start_step=5))
    assert same([(*r[:2], []) for r in resumed], [(*r[:2], []) for r in runs[0][5:]])


def test_copies_of_an_image_get_views_of_their_own_on_any_number_of_workers():
    repeated = {"batch_size": 6, "total_steps": 6, "repeats": 3}
    once, again = (
        contents(loader(images(12), VIEWS, workers=workers, **repeated)) for workers in (0, 2)
    )
    assert same(once, again)
    resumed = contents(loader(images(12), VIEWS, start_step=3, **repeated))
    assert same(resumed, once[3:])
    index, arrays, _ = once[0]
    first, second, third = (arrays["global"][:, k] for k in (0, 2, 4))
    assert index[::2] == [index[0]] * 3 and index[1::2] == [index[1]] * 3
    assert not torch.equal(first, second) and not torch.equal(second, third)
    single = contents(loader(images(12), VIEWS, batch_size=6, total_steps=1))[0]
    assert torch.equal(single[1]["global"][:, single[0].index(index[0])], first)  # copy 0 as ever


def test_a_batch_has_the_labels_of_the_images_that_were_used(make_folder):
    names = [f"{c}/{k:02d}.png" for c in "abc" for k in range(10)]
    dataset = open_dataset(make_folder(names, broken=[names[3], names[17]]))
    replaced = 0
    for workers in (0, 1):
        for batch, broken in loader(dataset, total_steps=14, workers=workers):
            replaced += len(broken)
            assert batch.labels.dtype == torch.int64
            assert batch.labels.tolist() == [dataset.labels[i] for i in batch.index]
            moved = batch.to(torch.device("meta"))
            assert moved.labels.device == moved.crops["image"].device == torch.device("meta")
    assert replaced == 4


def test_a_batch_of_unlabelled_images_has_no_labels():
    batch, _ = next(iter(loader(images(10))))
    assert batch.labels is None and batch.to(torch.device("cpu")).labels is None


def test_the_loader_leaves_torchs_random_state_alone():
    state = torch.get_rng_state()
    list(loader(images(10)))
    assert torch.equal(state, torch.get_rng_state())


def test_a_few_broken_files_are_replaced_and_named_once(make_folder):
    names = [f"{k:02d}.png" for k in range(40)]
    dataset = open_dataset(make_folder(names, broken=[names[3], names[30]]))
    batches = contents(loader(dataset, total_steps=20))
    reports = [message for _, _, broken in batches for message in broken]
    assert len(reports) == 2 and any("03.png" in r for r in reports)
    assert not {3, 30} & {index for indices, _, _ in batches for index in indices}


def test_too_many_broken_files_stop_the_run_within_an_epoch(make_folder):
    names = [f"{k:02d}.png" for k in range(40)]
    dataset = open_dataset(make_folder(names, broken=names[:10]))
    with pytest.raises(UserError, match=r"10 of the 40 images .*cannot be decoded"):
        list(loader(dataset, total_steps=10))


def test_the_broken_share_of_repeated_images_stays_an_estimate(make_folder):
    """An epoch of three copies reads a third of the images, by chance more than a fifth broken."""
    names = [f"{k:02d}.png" for k in range(36)]
    order = epoch_order(0, 0, 36)
    dataset = open_dataset(make_folder(names, broken=[names[k] for k in order[:4]]))
    reports = [text for _, broken in loader(dataset, total_steps=9, repeats=3) for text in broken]
    assert len(reports) == 4


def test_a_folder_of_broken_files_stops_at_once(make_folder):
    dataset = open_dataset(make_folder(["a.png", "b.png"], broken=["a.png", "b.png"]))
    with pytest.raises(UserError, match="2 of the 2 images"):
        next(iter(loader(dataset, batch_size=1, total_steps=100)))


def in_step(monkeypatch, dataset, world, every, steps):
    """The loaders of all processes, one step of each at a time; what each one is told."""
    loaders = [
        loader(dataset, batch_size=4, total_steps=steps, rank=r, world=world) for r in range(world)
    ]
    met = []

    def gather(into, mine):
        into[:] = met

    monkeypatch.setattr("sslbench.data.loader.dist.all_gather_object", gather)
    told = [[] for _ in loaders]
    for step, batches in enumerate(zip(*loaders, strict=True), start=1):
        assert all(names == [] for _, names in batches)
        if step % every == 0 or step == steps:
            met = [each._pending for each in loaders]
            for names, each in zip(told, loaders, strict=True):
                names += each.exchange()
    return told


@pytest.mark.parametrize("every", [1, 3])
def test_all_processes_know_what_any_of_them_met(make_folder, monkeypatch, every):
    """P4: what ranks above 0 met was never named."""
    names = [f"{k:02d}.png" for k in range(48)]
    dataset = open_dataset(make_folder(names, broken=names[::6]))
    first, *others = in_step(monkeypatch, dataset, 3, every, 8)
    assert len(first) == 8
    assert {name for name in names if any(f"/{name}: " in text for text in first)} == {*names[::6]}
    assert all(other == first for other in others)


def test_the_limit_is_of_all_processes_together(make_folder, monkeypatch):
    """P4: each rank had a fifth of its own, met by chance or by none."""
    names = [f"{k:02d}.png" for k in range(48)]
    folder, order = make_folder(names), epoch_order(0, 0, 48)
    own = [k for step in range(4) for k in order[12 * step + 4 : 12 * step + 8]]  # rank 1's
    for k in own[:9]:  # more than half of what it meets, less than a fifth of all
        (folder / names[k]).write_bytes(b"broken")
    dataset = open_dataset(folder)
    assert all(len(told) == 9 for told in in_step(monkeypatch, dataset, 3, 2, 4))
    (folder / names[own[9]]).write_bytes(b"broken")
    with pytest.raises(UserError, match=r"10 of the 48 images .*cannot be decoded"):
        in_step(monkeypatch, dataset, 3, 2, 4)


def test_datasets_too_small_are_refused():
    with pytest.raises(UserError, match="batch_size=8 is larger than the dataset noise with 7"):
        loader(images(7), batch_size=2, world=2, accumulate=2)
    with pytest.raises(UserError, match="noise has 1 image"):
        loader(images(1), batch_size=1)
