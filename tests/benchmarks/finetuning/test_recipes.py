"""The recipe of a fine-tuning: what is refused before it starts, and what its protocol says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sslbench.benchmarks.finetuning import recipes
from sslbench.benchmarks.finetuning.checks import check_size
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from tests.benchmarks.finetuning.small import MODEL, folder_of_classes


def test_a_batch_larger_than_the_data_is_one_sentence() -> None:
    recipe = SimpleNamespace(name="finetune/big", train=SimpleNamespace(batch_size=64))
    check_size(recipe, "photos", 64)
    with pytest.raises(UserError, match=r"finetune/big .* batches of 64 .* photos has 63; choose"):
        check_size(recipe, "photos", 63)


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
