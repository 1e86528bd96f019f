"""A run's recipe and folder are chosen, resumed and found again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sslbench import runs
from sslbench.config import config_files
from sslbench.errors import UserError
from sslbench.plugins import METHODS, TOKENIZERS
from sslbench.training import checkpoint
from tests.training import small


@pytest.mark.parametrize("method", ["beit", "dino", "ibot"])
def test_the_small_recipe_is_the_default(method) -> None:
    recipe, said = runs.choose_recipe(method, None, None, [])
    assert (recipe.name, recipe.data.source, said) == (f"shapes/{method}", "shapes", "")


@pytest.mark.parametrize("method", ["beit", "dino", "ibot"])
def test_data_alone_takes_the_papers_recipe_and_says_so(method) -> None:
    recipe, said = runs.choose_recipe(method, None, "my/images", [])
    assert recipe.name.startswith(f"papers/{method}_vit-small-p16_")
    assert recipe.name.endswith("_in1k")
    assert (recipe.data.source, recipe.backbone.arch) == ("my/images", "ViT-S/16")
    assert recipe.name in said
    assert f"shapes/{method}" in said


def test_a_tokenizer_has_recipes_of_its_own() -> None:
    recipe, _ = runs.choose_recipe("dvae", None, None, [], TOKENIZERS)
    assert recipe.name == "shapes/dvae"
    recipe, said = runs.choose_recipe("dvae", None, "my/images", [], TOKENIZERS)
    assert recipe.name == "papers/dvae"
    assert "papers/dvae" in said


def test_what_is_given_is_taken(images) -> None:
    recipe, said = runs.choose_recipe("dino", "shapes/dino", str(images), ["train.seed=3"])
    assert (recipe.name, recipe.train.seed, said) == ("shapes/dino", 3, "")
    assert recipe.data.source == str(images)
    recipe, _ = runs.choose_recipe("dino", None, "a", ["data.source=b"])
    assert recipe.data.source == "b"


@pytest.mark.parametrize("name", ["2012", "True", "none", "it's"])
def test_a_folder_may_have_any_name(name) -> None:
    recipe, _ = runs.choose_recipe("dino", "shapes/dino", name, [])
    assert recipe.data.source == name


def test_a_method_without_a_recipe_asks_for_one(monkeypatch) -> None:
    files = {"own/dino_large": Path("a"), "shapes/ibot": Path("b")}
    monkeypatch.setattr(runs, "config_files", lambda: files)
    with pytest.raises(UserError, match=r"no config 'shapes/dino'; .* one of own/dino_large\."):
        runs.choose_recipe("dino", None, None, [])
    with pytest.raises(UserError, match=r"no config 'papers/beit_vit-.*'; .* a file of yours\."):
        runs.choose_recipe("beit", None, "data", [])


def test_resuming_reads_the_runs_own_recipe(dino_run) -> None:
    recipe = runs.resumed_recipe(dino_run, "dino", None, ["run.workers=2"], METHODS)
    assert (recipe.run.workers, recipe.train.epochs, recipe.name) == (2, 1.0, "small/dino")


def test_resuming_a_damaged_recipe(tmp_path) -> None:
    (tmp_path / checkpoint.CONFIG).write_text('{"method": ')
    with pytest.raises(UserError, match=r"is damaged .*; name a run directory"):
        runs.resumed_recipe(tmp_path, "dino", None, [], METHODS)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe{", "is damaged"),
        (b"[]", "is damaged .it holds no object"),
        (b'{"method": "dino"}', "cannot be used: method='dino' is a value"),
        (b'{"method": {"name": 5}}', "cannot be used: unknown method '5'"),
        (b'{"method": {"name": "dino"}, "train": [1]}', "cannot be used: train is a section"),
        (b'{"a":' * 100_000, "is damaged"),
    ],
)
def test_whatever_a_recipe_s_file_holds_is_one_sentence(tmp_path, content, told) -> None:
    """P23: types and encodings ended in tracebacks."""
    (tmp_path / checkpoint.CONFIG).write_bytes(content)
    with pytest.raises(UserError, match=told):
        runs.resumed_recipe(tmp_path, None, None, [], METHODS)


def test_the_newest_run_of_each_method(tmp_path, dino_run, tokenizer) -> None:
    for age, name in enumerate(("new", "old")):
        shutil.copytree(dino_run, tmp_path / "deep" / name)
        weights = tmp_path / "deep" / name / checkpoint.WEIGHTS
        os.utime(weights, (1e9 - age, 1e9 - age))
    shutil.copytree(tokenizer, tmp_path / "tokenizer")  # no method
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / checkpoint.WEIGHTS).touch()  # not a run
    assert runs.newest_runs(tmp_path) == [str(tmp_path / "deep" / "new")]


def test_no_runs(tmp_path) -> None:
    with pytest.raises(UserError, match="no finished run below"):
        runs.newest_runs(tmp_path / "nowhere")


def test_shipped_recipes_stand_for_every_method() -> None:
    names = set(config_files())
    assert {f"{kind}/{m}" for kind in ("shapes", "reference") for m in small.METHODS} <= names
