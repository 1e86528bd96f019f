"""What Python passes and no shell would: "~", numpy's numbers, paths, another working folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sslbench as public
from tests.training import small


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, and a home folder beside it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def recipe(tmp_path, images):
    return small.write_config(tmp_path / "tiny.py", "dino", images, train={"epochs": 1})


def test_every_path_may_begin_with_the_home_folder(here, recipe, images, labelled) -> None:
    home = here.parent / "home"
    assert public.pretrain(recipe, images, "~/run", epochs=0.4) == home / "run"
    written = public.evaluate("~/run", labelled, ["knn"], out="~/results")
    assert list(public.load_records("~/results")) == list(written)
    saved = public.features("~/run", labelled).save("~/x.npz")
    assert saved == home / "x.npz" and saved.is_file()
    with pytest.raises(public.UserError, match=f"{home}/none.pth does not exist"):
        public.evaluate("~/run", labelled, ["knn"], classifier="~/none.pth")
    assert not (here / "~").exists()


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2"])
@pytest.mark.parametrize("name", ["limit", "jobs", "processes", "layers"])
def test_a_count_is_a_whole_number_from_one(here, recipe, images, name, value) -> None:
    calls = {
        "limit": [
            lambda: public.pretrain(recipe, images, limit=value),
            lambda: public.evaluate("pixels:8", images, ["knn"], limit=value),
        ],
        "jobs": [lambda: public.evaluate("pixels:8", images, ["knn"], jobs=value)],
        "processes": [lambda: public.pretrain(recipe, images, processes=value)],
        "layers": [lambda: public.features("pixels:8", images, layers=value)],
    }
    for call in calls[name]:
        with pytest.raises(public.UserError, match=f"{name}={value!r} is not a whole number from"):
            call()
    assert list(here.iterdir()) == []


def test_settings_may_come_from_numpy_torch_and_pathlib(here, recipe, images) -> None:
    settings = {
        "optim.lr": np.float64(2e-3),
        "train.batch_size": np.int64(4),
        "optim.betas": np.array([0.5, 0.75]),
        "data.source": Path(images),
    }
    run = public.pretrain(
        recipe, settings=settings, seed=torch.tensor(5), epochs=np.float32(0.5), limit=None
    )
    config = json.loads((run / "config.json").read_text())
    assert (config["optim"]["lr"], config["train"]["batch_size"]) == (2e-3, 4)
    assert (config["train"]["seed"], config["train"]["epochs"]) == (5, 0.5)
    assert config["optim"]["betas"] == [0.5, 0.75]
    assert public.load_backbone(public.pretrain(recipe, images, limit=np.int64(1))).card.steps == 1


@pytest.mark.parametrize(("name", "value"), [("pool", None), ("split", None), ("split", 3)])
def test_a_name_of_another_type_is_an_unknown_one(images, name, value) -> None:
    with pytest.raises(public.UserError, match=f"(?i)unknown (pooling|split) {value!r}"):
        public.features("pixels:8", images, **{name: value})
