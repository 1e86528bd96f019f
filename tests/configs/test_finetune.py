"""finetune/* hold what was published and say where each value is from."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from sslbench.recipes.load import benchmark_configs, read_config, recipe_from_dict
from sslbench.recipes.recipe import OptimConfig, TrainConfig, peak_lr
from tests.configs.published_finetunings import ROWS
from tests.configs.test_papers import ROOT, TAG, flat, leaves, published_rows

FOLDER = ROOT / "configs" / "finetune"
OWN = ("shapes", "_shapes", "folder", "_folder")  # recipes that nobody published
FILES = sorted(p for p in FOLDER.glob("[!_]*.py") if not p.stem.startswith(OWN))
BASES = sorted(p for p in FOLDER.glob("_[!_]*.py") if not p.stem.startswith(OWN))
NETWORKS = {
    "ViT-S/16": "vit_small",
    "ViT-B/16": "vit_base",
    "ViT-L/16": "vit_large",
    "BEiT ViT-B/16": "beit_base",
    "BEiT ViT-L/16": "beit_large",
}


@cache
def config_of(name: str) -> dict[str, Any]:
    return read_config(str(FOLDER / f"{name}.py"))


def values_of(name: str) -> dict[str, Any]:
    """Nested settings of a config, its `about` included, its name not."""
    values = deepcopy(config_of(name))
    del values["name"]
    return values


def test_every_published_fine_tuning_has_a_config_and_no_other_has() -> None:
    assert {path.stem for path in FILES} == set(ROWS)
    assert set(ROWS) <= set(benchmark_configs("finetune"))


@pytest.mark.parametrize("name", ROWS)
def test_the_config_is_the_published_recipe(name: str) -> None:
    values = {k: v for k, v in flat(values_of(name)).items() if not k.startswith("about.")}
    assert values == ROWS[name].values


@pytest.mark.parametrize("path", FILES + BASES, ids=lambda p: p.stem)
def test_every_value_says_where_it_is_from(path) -> None:
    source = path.read_text()
    lines = source.splitlines()
    places = [(key, line) for key, line in leaves(source) if key != "method.name"]
    assert [key for key, line in places if not TAG.search(lines[line - 1])] == []


@pytest.mark.parametrize("name", ROWS)
def test_expected_figures_are_published_ones(name: str) -> None:
    row, about = ROWS[name], values_of(name)["about"]
    known = {
        (r["benchmark"], r["metric"], float(r["value"]), f"{r['source']}, {r['table']}")
        for r in published_rows()
        if r["method"].removesuffix("+") == row.method
        and r["arch"].removesuffix(" rel") == row.arch
        and r["pretrain_data"].removesuffix(", labels") == row.pretrain_data
        and (r["dataset"], r["benchmark"]) == (row.dataset, row.benchmark)
        and row.setting in r["setting"]
    }
    expected = about.get("expected", ())
    assert set(expected) <= known
    assert about["dataset"] == row.dataset
    figures = [(value, source) for _, _, value, source in expected]
    assert [value for value, _ in figures] == [value for value, _ in row.figures]
    starts = [start for _, start in row.figures]
    assert all(source.startswith(s) for (_, source), s in zip(figures, starts, strict=True))


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("semi1_vits16", 1e-5),
        ("cifar10_vitb16", 1.125e-5),
        ("cars_vits16", 1.125e-4),
        ("inat18_vits16", 7.5e-5),
        ("inat18_vitb16", 1.125e-5),
        ("scratch_deit_vitb16", 1e-3),
        ("scratch_deit_vitb16_384", 5e-6),
        ("in22k_beit_vitb16", 4e-3),
    ],
)
def test_peak_learning_rates_are_those_of_the_scripts(name: str, peak: float) -> None:
    values = values_of(name)
    optim = OptimConfig(lr=values["optim"]["lr"], scale_lr=values["optim"]["scale_lr"])
    train = TrainConfig(batch_size=values["train"]["batch_size"])
    assert peak_lr(optim, train) == pytest.approx(peak)
    assert peak_lr(replace(optim, scale_lr=False), train) == values["optim"]["lr"]


def test_semi_supervised_learning_is_flat_after_its_warm_up() -> None:
    optim = values_of("semi10_vits16")["optim"]
    assert optim["lr"] * 1024 / 256 == pytest.approx(optim["min_lr"])


@pytest.mark.parametrize("name", ROWS)
def test_every_value_is_a_setting_of_the_trainer(name: str) -> None:
    values, row = values_of(name), ROWS[name]
    values.pop("rates", None)
    network = NETWORKS[f"{'BEiT ' * (row.method == 'BEiT')}{row.arch}"]
    values["backbone"] = {"patch_size": 16, "name": network, **values["backbone"]}
    recipe = recipe_from_dict(values, "sslbench.classifiers")
    typed = flat(recipe.to_dict())
    assert {k: typed[k] for k in row.values if k != "rates"} == {
        k: v for k, v in row.values.items() if k != "rates"
    }
