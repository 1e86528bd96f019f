"""Recipes are read whole: every key is checked, and nothing is lost on the way to disk."""

from __future__ import annotations

import contextlib
import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.recipes.identity import _flat
from sslbench.recipes.load import (
    benchmark_configs,
    config_files,
    find_config,
    load_recipe,
    read_config,
    recipe_from_dict,
)
from sslbench.recipes.recipe import OptimConfig, Recipe, TrainConfig
from tests.training import small


def changed(*changes: str) -> Recipe:
    values = small.settings("dino", Path("data"))
    return recipe_from_dict(values, plugins.METHODS, changes)


@pytest.mark.parametrize(
    ("change", "read", "value"),
    [
        ("train.epochs=10", lambda r: r.train.epochs, 10.0),
        ("optim.lr=5e-4", lambda r: r.optim.lr, 5e-4),
        ("optim.clip=none", lambda r: r.optim.clip, None),
        ("optim.clip=None", lambda r: r.optim.clip, None),
        ("optim.scale_lr=true", lambda r: r.optim.scale_lr, True),
        ("optim.scale_lr=False", lambda r: r.optim.scale_lr, False),
        ("optim.no_decay=('a', 'b')", lambda r: r.optim.no_decay, ("a", "b")),
        ("method.views.blur=(0,0,1)", lambda r: r.method.views.blur, (0.0, 0.0, 1.0)),
        ("data.source=my/folder=1", lambda r: r.data.source, "my/folder=1"),
        ("name=mine", lambda r: r.name, "mine"),
    ],
)
def test_set_changes_one_value(change, read, value) -> None:
    assert read(changed(change)) == value
    assert type(read(changed(change))) is type(value)


def test_the_last_change_wins_and_the_given_dict_stays() -> None:
    values = small.settings("dino", Path("data"))
    before = json.dumps(values)
    recipe = recipe_from_dict(values, changes=["train.seed=1", "train.seed=2"])
    assert recipe.train.seed == 2
    assert json.dumps(values) == before


@pytest.mark.parametrize("change", ["train.epochs", "=3", ""])
def test_a_change_needs_a_key_and_a_value(change) -> None:
    with pytest.raises(UserError, match=r"is not of the form key=value, e\.g\. train\.epochs=10"):
        changed(change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "train.epochs=-1",
            r"train\.epochs=-1: must be greater than 0 \(passes over the data\)\.$",
        ),
        ("train.epochs=1e999", "train.epochs=inf: must be a finite number"),
        ("train.batch_size=0", r"train\.batch_size=0: must be greater than or equal to 1"),
        ("run.save_every=0", r"run\.save_every=0: must be"),
        ("optim.clip_by=tensr", "did you mean 'tensor'"),
        ("train.precision=fp16", r"train\.precision='fp16'"),
        ("needs=3", "needs=3 is a value"),
    ],
)
def test_impossible_values(change, message) -> None:
    with pytest.raises(UserError, match=message):
        changed(change)


def test_a_recipe_without_a_method() -> None:
    with pytest.raises(UserError, match=r"names no method; set method\.name"):
        recipe_from_dict({"name": "x"})


@pytest.mark.parametrize("method", small.METHODS)
def test_a_recipe_survives_json(method) -> None:
    group = small.group_of(method)
    needs = {"needs": {"tokenizer": "runs/x"}} if method == "beit" else {}
    changes = {"no_decay": ["pos_embed"], "clip": None}
    recipe = small.recipe(method, Path("data"), optim=changes, **needs)
    again = recipe_from_dict(json.loads(json.dumps(recipe.to_dict())), group)
    assert again == recipe
    assert again.optim.no_decay == ("pos_embed",)


@pytest.mark.parametrize("name", config_files())
def test_every_config_that_is_shipped_reads(name) -> None:
    tokenizer = name.rsplit("/", 1)[-1].split("_")[0] in plugins.available(plugins.TOKENIZERS)
    recipe = load_recipe(name, group=plugins.TOKENIZERS if tokenizer else plugins.METHODS)
    assert recipe.name == name


def test_bases_are_no_recipes() -> None:
    assert {"shapes/dino", "papers/dvae"} <= set(config_files())
    assert not [name for name in config_files() if "_base" in name or "__init__" in name]


def test_a_benchmark_s_folder_holds_no_recipes(monkeypatch, tmp_path) -> None:
    package = tmp_path / "own_configs"
    for name in ("boxes/__init__", "boxes/small", "boxes/_base", "small/boxes", "boxes"):
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('"""A config."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("own", "own_configs", "sslbench.configs")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry])
    monkeypatch.setattr(plugins, "available", lambda group: {"boxes": None, "knn": None})
    assert set(config_files()) == {"boxes", "small/boxes"}
    assert benchmark_configs("boxes") == {"small": package / "boxes" / "small.py"}
    assert benchmark_configs("knn") == {}


def test_a_config_inherits_and_a_file_is_known_by_its_stem(tmp_path) -> None:
    small.write_config(tmp_path / "_base.py", "dino", Path("data"))
    (tmp_path / "mine.py").write_text("_base_ = '_base.py'\ntrain = dict(seed=7)\n")
    recipe = load_recipe(str(tmp_path / "mine.py"), "dino", ["train.epochs=2"])
    assert recipe.train == TrainConfig(epochs=2.0, batch_size=8, seed=7, precision="fp32")
    assert recipe.name == "small/dino"
    assert recipe.optim == OptimConfig(lr=1e-3, scale_lr=False, warmup_epochs=0.5)


def test_a_nameless_config_is_named_after_its_file(tmp_path) -> None:
    (tmp_path / "mine.py").write_text("method = dict(name='dino')\n")
    assert load_recipe(str(tmp_path / "mine.py")).name == "mine"


def test_find_config(tmp_path) -> None:
    assert find_config("shapes/dino").name == "dino.py"
    assert find_config(str(small.write_config(tmp_path / "a.py", "dino", tmp_path))).exists()
    with pytest.raises(UserError, match="did you mean 'shapes/ibot'"):
        find_config("shape/ibot")


@pytest.mark.parametrize(
    "config", ["shapes/dino", "shapes/ibot", "shapes/beit", "papers/dvae", "photos/ibot"]
)
def test_no_setting_takes_a_number_that_only_float64_can_hold(config) -> None:
    values = read_config(config)
    group = plugins.TOKENIZERS if config.endswith("dvae") else plugins.METHODS
    taken = []
    for key, value in _flat(recipe_from_dict(values, group).to_dict()).items():
        many = repr((1e300,) * len(value)) if isinstance(value, tuple) and value else "1e300"
        if isinstance(value, float | tuple) and not key.startswith("about."):
            with contextlib.suppress(UserError):
                recipe_from_dict(values, group, [f"{key}={many}"])
                taken.append(key)
    assert taken == []


def test_what_is_no_recipe_says_what_it_is(tmp_path, monkeypatch) -> None:
    """A run and a fine-tuning's config were answered by the list of all recipes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for name in ("run", "run/", str(tmp_path / "run"), "run/config.json"):
        with pytest.raises(UserError, match=r"is a run, not a config; its settings are in .*json"):
            find_config(name)
    command = "`sslbench evaluate --benchmark finetune --config folder_cls`"
    with pytest.raises(UserError, match=f"benchmark finetune, not a recipe; use it with {command}"):
        find_config("finetune/folder_cls")
    with pytest.raises(UserError, match="unknown config 'nothing'"):
        find_config("nothing")
