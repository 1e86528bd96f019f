"""The online check knows what is learnt, and nothing that is trained knows of the check."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from sslbench.data.images import open_dataset
from sslbench.storage import layout, weights
from sslbench.training import online
from sslbench.training.build import build_method
from sslbench.training.log import LOG, read_log
from sslbench.training.online import IMAGES, Probe, make_probe, watch
from tests.pictures import write_images

from . import small

KEYS = {"knn_top1", "views_match"}
FEW = {"run": {"watch_every": 5, "log_every": 1}}


def seen(out):
    """(step, name, value, value at the start) of every measurement."""
    return [
        (int(r["step"]), key, r[key], r[f"{key}_start"])
        for r in read_log(out)
        for key in sorted(KEYS & r.keys())
    ]


def sha_of(out):
    return weights.read_weights(out / layout.WEIGHTS)[1]["sha256"]


@pytest.fixture(autouse=True, scope="module")
def often():
    """Measurements come as often as asked for: these runs are too short to hide what they cost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "SHARE", 0.01)
        yield


@pytest.fixture(scope="module")
def watched(tmp_path_factory, labelled):
    """A DINO run of 15 steps on two classes, one bright and one dark."""
    out = tmp_path_factory.mktemp("watched") / "run"
    return small.train(small.recipe("dino", labelled, **FEW), out)


def test_labels_are_asked_where_there_are_some(watched) -> None:
    measured = seen(watched)
    assert [(step, key) for step, key, *_ in measured] == [
        (step, "knn_top1") for step in (5, 10, 15)
    ]
    assert len({start for *_, start in measured}) == 1
    assert all(0 <= value <= 100 for *_, value, _ in measured)


def test_views_are_asked_where_there_are_none(tmp_path, images) -> None:
    out = small.train(small.recipe("dino", images, **FEW), tmp_path / "run")
    assert [(step, key) for step, key, *_ in seen(out)] == [
        (step, "views_match") for step in (5, 10, 15)
    ]
    first = json.loads((out / LOG).read_text().splitlines()[0])["note"]
    assert first.startswith("views_match: two crops of 40 training images")
    assert first.endswith("% with untrained weights, 2.5 % by chance")


@pytest.mark.parametrize("method", ["dino", "ibot", "beit"])
def test_training_does_not_notice(tmp_path, labelled, tokenizer, method) -> None:
    needs = {"needs": {"tokenizer": str(tokenizer)}} if method == "beit" else {}
    found = {}
    for every in (0, 1):
        changes = {"run": {"watch_every": every}, "train": {"epochs": 1}} | needs
        out = small.train(small.recipe(method, labelled, **changes), tmp_path / str(every))
        logged = small.losses(out)
        found[every] = sha_of(out), [{k: r[k] for k in r if "top1" not in k} for r in logged]
    assert found[0] == found[1]
    assert seen(tmp_path / "0") == []
    assert len(seen(tmp_path / "1")) == 5


def test_a_resumed_run_measures_the_same(tmp_path, watched, labelled) -> None:
    out = tmp_path / "run"
    shutil.copytree(watched, out)
    shutil.copy(out / layout.PREVIOUS, out / layout.STATE)
    (out / layout.WEIGHTS).unlink()
    small.train(small.recipe("dino", labelled, **FEW), out, resume=True)
    assert seen(out) == seen(watched)
    assert sha_of(out) == sha_of(watched)


def test_asking_leaves_no_trace(labelled, images) -> None:
    """Modes, buffers and generators are as they were."""
    recipe = small.recipe("dino", labelled)
    method = build_method(recipe)
    method.train()
    modes = [module.training for module in method.modules()]
    before = {k: v.clone() for k, v in method.state_dict().items()}
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 (the global generator is what is looked at)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for data in (labelled, images):
        check = watch(method, recipe, open_dataset(data), main=True)
        assert check.values(100, 20, 1000)
    assert [module.training for module in method.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002


def test_only_the_first_process_and_only_backbones_are_asked(labelled, images) -> None:
    recipe = small.recipe("dino", labelled)
    method = build_method(recipe)
    for other in (recipe, small.recipe("dino", labelled, run={"watch_every": 0})):
        assert watch(method, other, open_dataset(labelled), main=other is not recipe).probe is None
    recipe = small.recipe("dvae", images)
    method = build_method(recipe, small.group_of("dvae"))
    assert watch(method, recipe, open_dataset(images), main=True).probe is None


@pytest.mark.parametrize(("name", "every"), [("labelled", 60), ("images", 120)])
def test_it_costs_little(request, monkeypatch, name, every) -> None:
    """24 patches are trained for each that is asked: here 36 an image of 8 and 16 of 40 views."""
    monkeypatch.setattr(online, "SHARE", 24)
    data = request.getfixturevalue(name)
    recipe = small.recipe("dino", data, run={"watch_every": 20})
    check = watch(build_method(recipe), recipe, open_dataset(data), main=True)
    views, count = check.probe.pixels.shape[:2]
    assert check.every == every
    assert every * 8 * 36 >= 24 * views * count * 16 > (every - 20) * 8 * 36


def test_measurements_come_when_a_line_is_due(labelled) -> None:
    recipe = small.recipe("dino", labelled, run={"watch_every": 30})
    check = watch(build_method(recipe), recipe, open_dataset(labelled), main=True)
    due = [step for step in range(20, 201, 20) if check.values(step, 20, 190)]
    assert due == [40, 60, 100, 120, 160, 180]
    assert check.values(190, 20, 190)


# --- what is asked -------------------------------------------------------------------------------


def test_knn_finds_classes_and_no_image_finds_itself() -> None:
    labels = torch.tensor([0] * 6 + [1] * 6)
    probe = Probe("knn_top1", torch.empty(0), labels, 50.0, "")
    x = nn.functional.one_hot(labels, 4).float() + 0.1 * torch.rand(1, 12, 4)
    assert probe.score(x) == 100
    alone = Probe("knn_top1", torch.empty(0), torch.arange(12), 8.3, "")  # nobody of its class
    assert alone.score(x) == 0


def test_views_find_each_other_by_what_they_share() -> None:
    probe = Probe("views_match", torch.empty(0), None, 10.0, "")
    x = torch.eye(10)
    assert probe.score(torch.stack([x, x + 0.01])) == 100
    assert probe.score(torch.stack([x, x.roll(1, 0)])) == 0


def test_few_classes_of_many_are_asked_so_that_each_has_neighbours(tmp_path) -> None:
    for number in range(30):
        write_images(tmp_path / "train" / f"{number:02d}", 5, number)
    probe = make_probe(open_dataset(tmp_path), 16, 40)
    counts = torch.bincount(probe.labels)
    assert (len(counts), int(counts.min()), probe.chance) == (2, 5, 50.0)
    assert len(make_probe(open_dataset(tmp_path), 16, IMAGES).labels) == 100


def test_broken_images_are_left_out(tmp_path) -> None:
    folder = write_images(tmp_path / "flat", 10)
    for path in sorted(folder.iterdir())[:4]:
        path.write_bytes(path.read_bytes()[:100])
    probe = make_probe(open_dataset(folder), 16, 20)
    assert probe.pixels.shape == (2, 6, 3, 16, 16)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert make_probe(open_dataset(folder), 16, 10) is None


def test_classes_of_one_image_each_are_no_classes(tmp_path) -> None:
    for number in range(6):
        write_images(tmp_path / "train" / str(number), 1, number)
    assert make_probe(open_dataset(tmp_path), 16, 6).key == "views_match"
