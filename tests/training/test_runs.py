"""A run's recipe and folder are chosen, resumed and found again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sslbench.errors import UserError
from sslbench.plugins import METHODS, TOKENIZERS
from sslbench.recipes.identity import kept_settings
from sslbench.recipes.load import config_files, find_config, recipe_from_dict
from sslbench.recipes.recipe import Budget
from sslbench.storage import layout
from sslbench.training import runs
from tests.training import small


@pytest.mark.parametrize("method", ["beit", "dino", "ibot"])
def test_the_small_recipe_is_the_default(method) -> None:
    recipe, said = runs.choose_recipe(method, None, None, [])
    assert (recipe.name, recipe.data.source, said) == (f"shapes/{method}", "shapes", "")


@pytest.mark.parametrize("method", ["beit", "dino", "ibot"])
def test_data_alone_takes_the_recipe_for_photographs_and_says_so(method, images) -> None:
    """P7: it took the paper's recipe, which fails below 1,024 images."""
    recipe, said = runs.choose_recipe(method, None, str(images), [])
    assert (recipe.name, recipe.data.source) == (f"photos/{method}", str(images))
    assert recipe.train.batch_size == 8  # five of 40 images
    assert recipe.train.epochs == 400
    assert f"No --config given: photos/{method}, fitted to 40 images and a CPU: 400 epochs" in said
    assert f"The paper's recipe: --config papers/{method}_vit-small-p16_" in said


def test_what_is_fitted_is_a_plain_setting_and_the_user_s_word_is_kept(images) -> None:
    given = ["train.batch_size=16", "train.epochs=10"]
    recipe, _ = runs.choose_recipe("ibot", None, str(images), given)
    assert (recipe.train.batch_size, recipe.train.epochs) == (16, 10.0)
    share = dict(recipe.budget.shares)["optim.warmup_epochs"]
    assert recipe.optim.warmup_epochs == pytest.approx(10 * share, rel=0.01)
    again = recipe_from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe  # a resumed run is not fitted again
    other = replace(recipe, budget=Budget(images=7))
    assert kept_settings(other) == kept_settings(recipe)


def test_a_config_for_photographs_is_fitted_by_its_name_too(images) -> None:
    recipe, said = runs.choose_recipe(None, "photos/dino", str(images), [])
    assert recipe.train.batch_size == 8
    assert said.startswith("photos/dino, fitted to 40 images")
    assert "paper" not in said


def test_what_a_user_s_file_sets_is_not_fitted(images, tmp_path) -> None:
    """train.epochs of a file was replaced by the budget of its base without a word."""
    path = tmp_path / "mine.py"
    base = f"_base_ = {str(find_config('photos/dino'))!r}"
    path.write_text(f"{base}\ntrain = dict(epochs=3.0)\n")
    recipe, remark = runs.choose_recipe(None, str(path), str(images), [])
    assert (recipe.train.epochs, recipe.train.batch_size) == (3.0, 8) and "3 epochs" in remark
    recipe, _ = runs.choose_recipe(None, str(path), str(images), ["train.epochs=4"])
    assert recipe.train.epochs == 4


def test_what_is_no_folder_of_photographs() -> None:
    assert runs.choose_recipe("dino", None, "shapes", [])[0].name == "shapes/dino"
    recipe, said = runs.choose_recipe("dino", None, "imagenet-1k", [])  # as a dry run names it
    assert recipe.name == "papers/dino_vit-small-p16_16xb64-coslr-800e_in1k"
    assert said == f"No --config given: {recipe.name}."


@pytest.mark.parametrize("method", ["beit", "dino", "ibot"])
def test_a_gpu_takes_the_changes_made_for_one(images, monkeypatch, method) -> None:
    cpu, _ = runs.choose_recipe(method, None, str(images), [])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    gpu, said = runs.choose_recipe(method, None, str(images), [])
    assert "fitted to 40 images and a GPU: 1000 epochs" in said
    assert gpu.budget.images > cpu.budget.images
    kept, _ = runs.choose_recipe(method, None, str(images), ["budget.epochs=10.0"])
    assert kept.train.epochs == 10


def test_a_tokenizer_has_recipes_of_its_own(images) -> None:
    recipe, _ = runs.choose_recipe("dvae", None, None, [], TOKENIZERS)
    assert recipe.name == "shapes/dvae"
    recipe, said = runs.choose_recipe("dvae", None, str(images), [], TOKENIZERS)
    assert recipe.name == "photos/dvae"
    assert "The paper's recipe: --config papers/dvae." in said


def test_what_is_trained_first(images) -> None:
    recipe, _ = runs.choose_recipe("beit", None, str(images), [])
    assert recipe.to_train_first() == {"tokenizer": "photos/dvae"}
    recipe, _ = runs.choose_recipe("beit", None, str(images), ["needs.tokenizer=runs/mine"])
    assert recipe.to_train_first() == {}


def test_what_is_given_is_taken(images) -> None:
    recipe, said = runs.choose_recipe("dino", "shapes/dino", str(images), ["train.seed=3"])
    assert (recipe.name, recipe.train.seed, said) == ("shapes/dino", 3, "")
    assert recipe.data.source == str(images)
    recipe, _ = runs.choose_recipe("dino", "shapes/dino", "a", ["data.source=b"])
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
    with pytest.raises(UserError, match=r"no config 'photos/beit'; .* a file of yours\."):
        runs.choose_recipe("beit", None, "data", [])


def test_resuming_reads_the_runs_own_recipe(dino_run) -> None:
    recipe = runs.resumed_recipe(dino_run, "dino", None, ["run.workers=2"], METHODS)
    assert (recipe.run.workers, recipe.train.epochs, recipe.name) == (2, 1.0, "small/dino")


@pytest.mark.parametrize(
    ("name", "group", "remedy"),
    [
        ("supervised", METHODS, r"is a fine-tuning, .*repeat the evaluate command"),
        ("supervised", TOKENIZERS, r"is a fine-tuning, .*repeat the evaluate command"),
        ("dvae", METHODS, r"a run of 'dvae'; .*`sslbench tokenizer train --resume --out "),
        ("dino", TOKENIZERS, r"a run of 'dino'; .*`sslbench pretrain --resume --out "),
        ("nothing", METHODS, r"unknown method 'nothing'"),
        ([], METHODS, r"cannot be used"),
    ],
)
def test_a_run_of_another_command_names_it(tmp_path, name, group, remedy) -> None:
    (tmp_path / layout.CONFIG).write_text(json.dumps({"method": {"name": name}}))
    with pytest.raises(UserError, match=remedy) as refused:
        runs.resumed_recipe(tmp_path, None, None, [], group)
    assert str(tmp_path) in str(refused.value)


def test_resuming_a_damaged_recipe(tmp_path) -> None:
    (tmp_path / layout.CONFIG).write_text('{"method": ')
    with pytest.raises(UserError, match=r"is damaged .*; name a run directory"):
        runs.resumed_recipe(tmp_path, "dino", None, [], METHODS)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe{", "is damaged"),
        (b"[]", "is damaged .it is not a JSON object"),
        (b'{"method": "dino"}', "cannot be used: method='dino' is a value"),
        (b'{"method": {"name": 5}}', "cannot be used: unknown method '5'"),
        (b'{"method": {"name": "dino"}, "train": [1]}', "cannot be used: train is a section"),
        (b'{"a":' * 100_000, "is damaged"),
    ],
)
def test_whatever_a_recipe_s_file_holds_is_one_sentence(tmp_path, content, told) -> None:
    """P23: types and encodings ended in tracebacks."""
    (tmp_path / layout.CONFIG).write_bytes(content)
    with pytest.raises(UserError, match=told):
        runs.resumed_recipe(tmp_path, None, None, [], METHODS)


def test_the_newest_run_of_each_method(tmp_path, dino_run, tokenizer) -> None:
    for age, name in enumerate(("new", "old")):
        shutil.copytree(dino_run, tmp_path / "deep" / name)
        weights = tmp_path / "deep" / name / layout.WEIGHTS
        os.utime(weights, (1e9 - age, 1e9 - age))
    shutil.copytree(tokenizer, tmp_path / "tokenizer")  # no method
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / layout.WEIGHTS).touch()  # not a run
    assert runs.newest_runs(tmp_path) == [str(tmp_path / "deep" / "new")]


def test_no_runs(tmp_path) -> None:
    with pytest.raises(UserError, match="no finished run below"):
        runs.newest_runs(tmp_path / "nowhere")


def test_shipped_recipes_stand_for_every_method() -> None:
    names = set(config_files())
    assert {f"{kind}/{m}" for kind in ("shapes", "reference") for m in small.METHODS} <= names
