"""The recipe of a fine-tuning: what its protocol says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sslbench.benchmarks.finetuning import recipes
from sslbench.checkpoints.load import load_backbone
from sslbench.recipes.load import benchmark_configs
from sslbench.recipes.recipe import Recipe
from tests.benchmarks.finetuning.small import MODEL, folder_of_classes


def test_what_a_budget_came_to_belongs_to_the_protocol(tmp_path, monkeypatch) -> None:
    """Fewer images, or a GPU, mean other epochs, and so another protocol."""
    few, many = (folder_of_classes(tmp_path / str(n), train=n) for n in (5, 40))
    model, values = load_backbone(MODEL), recipes.read("folder_cls")
    hashes = {
        recipes.config_hash(values, recipes.recipe_for(values, model, data, seed))
        for data in (few, many)
        for seed in (0, 1)
    }
    monkeypatch.setattr(recipes.torch.cuda, "is_available", lambda: True)
    hashes.add(recipes.config_hash(values, recipes.recipe_for(values, model, many, 0)))
    assert len(hashes) == 3


def _user_config(tmp_path, text: str) -> dict:
    path = tmp_path / "finetune" / "mine.py"
    path.parent.mkdir(exist_ok=True)
    base = benchmark_configs("finetune")["folder_cls"]
    path.write_text(f"_base_ = {str(base)!r}\n{text}\n")
    return recipes.read(str(path))


@pytest.mark.parametrize("gpu", [False, True])
def test_what_a_user_s_config_sets_is_not_replaced_by_the_budget(
    tmp_path, monkeypatch, gpu
) -> None:
    """train.epochs alone was replaced, and so was the budget's own, where there is a GPU."""
    monkeypatch.setattr(recipes.torch.cuda, "is_available", lambda: gpu)
    data, model = folder_of_classes(tmp_path / "data", train=10), load_backbone(MODEL)

    def fitted(text: str) -> Recipe:
        return recipes.recipe_for(_user_config(tmp_path, text), model, data, 0)

    recipe = fitted("train = dict(epochs=7.0)")
    assert (recipe.train.epochs, recipe.train.batch_size) == (7.0, 16)
    assert recipe.optim.warmup_epochs == 0.7  # what follows from the epochs follows these
    assert fitted("budget = dict(epochs=10.0)").train.epochs == 10.0
    assert fitted("train = dict(batch_size=4)").train.batch_size == 4
    assert fitted("backbone = dict(drop_path=0.0)").train.epochs == (100 if gpu else 50)


def test_what_a_user_s_config_sets_is_hashed_by_its_effect(tmp_path) -> None:
    """The list of what it sets is none of the values that a protocol holds."""
    data, model = folder_of_classes(tmp_path / "data"), load_backbone(MODEL)
    plain, same = recipes.read("folder_cls"), _user_config(tmp_path, "run = dict(workers=0)")
    hashes = {recipes.config_hash(v, recipes.recipe_for(v, model, data, 0)) for v in (plain, same)}
    assert len(hashes) == 1


RECORDS = Path(__file__).parents[3] / "results" / "shapes" / "records.jsonl"


@pytest.mark.parametrize("config", ["shapes_cls", "shapes_mean", "shapes_scratch"])
def test_a_setting_added_later_leaves_old_records_comparable(tmp_path, config: str) -> None:
    """Hashes of the published records: `train.compile`, off by default, had changed them all."""
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    published = {r["protocol"]["config_hash"] for r in records
                 if r["protocol"].get("config") == config}  # fmt: skip
    values, data = recipes.read(config), folder_of_classes(tmp_path)
    recipe = recipes.recipe_for(values, load_backbone(MODEL), data, 0)
    assert published == {recipes.config_hash(values, recipe)}


def test_a_setting_added_later_counts_where_it_is_used(tmp_path) -> None:
    data, model = folder_of_classes(tmp_path / "data"), load_backbone(MODEL)
    hashes = set()
    for text in ("", "train = dict(compile=True)"):
        values = _user_config(tmp_path, text)
        hashes.add(recipes.config_hash(values, recipes.recipe_for(values, model, data, 0)))
    assert len(hashes) == 2
