"""The recipes for photographs run as they stand, on few images and on many."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from sslbench.plugins import METHODS, TOKENIZERS
from sslbench.recipes.load import load_recipe
from sslbench.storage import layout
from sslbench.training import runs
from sslbench.training.log import read_log
from sslbench.training.run import length
from sslbench.training.train import pretrain
from tests.training.small import ALONE

GROUPS = {"dino": METHODS, "ibot": METHODS, "beit": METHODS, "dvae": TOKENIZERS}


@pytest.mark.parametrize("method", GROUPS)
def test_two_steps_of_every_recipe(tmp_path, images, tokenizer, method) -> None:
    given = ["budget.images=16", "run.workers=0", "run.threads=1", "train.precision=fp32"]
    given += [f"needs.tokenizer={str(tokenizer)!r}"] if method == "beit" else []
    recipe, _ = runs.choose_recipe(method, None, str(images), given, GROUPS[method])
    pretrain(recipe, tmp_path, ALONE, console=Console(quiet=True), group=GROUPS[method])
    assert (tmp_path / layout.WEIGHTS).exists()
    assert [r["step"] for r in read_log(tmp_path)] == [2]
    kept = json.loads((tmp_path / layout.CONFIG).read_text())["train"]
    assert (kept["batch_size"], kept["epochs"]) == (8, 0.4)


@pytest.mark.parametrize("method", ["dino", "ibot"])
def test_colours_hardly_change(method) -> None:
    """Strong jitter, made so that colour says nothing, held DINO below raw pixels on flowers."""
    views = load_recipe(f"photos/{method}").method.views
    assert (views.hue, views.saturation, views.grayscale) == (0.02, 0.1, 0.0)


@pytest.mark.parametrize("images", [20, 200, 720, 5_000, 300_000])
def test_the_masks_join_a_run_that_learns_already(monkeypatch, images) -> None:
    monkeypatch.setattr(runs, "open_training", lambda *_: range(images))
    recipe, _ = runs.choose_recipe("ibot", None, "anywhere", [])
    start = recipe.method.mask.start_epoch
    assert start <= 0.25 * recipe.train.epochs
    assert start == 0 or start > 0.25 * recipe.train.epochs - 1
    steps, per_epoch = length(recipe, images)
    assert steps * recipe.train.batch_size <= 1.02 * recipe.budget.images
    assert per_epoch >= 4
    assert recipe.optim.warmup_epochs == pytest.approx(0.06 * recipe.train.epochs, rel=0.01)
