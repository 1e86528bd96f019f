"""A budget becomes plain settings that follow the number of images, and the user's word stays."""

from __future__ import annotations

import ast

import pytest

from sslbench.recipes.fitting import fitted_settings, fitting_batch, fitting_epochs
from sslbench.recipes.recipe import Budget, Recipe, TrainConfig

BUDGET = Budget(
    images=40_000,
    shares=(("optim.warmup_epochs", 0.1),),
    starts=(("method.mask.start_epoch", 0.25),),
)


def settings(images, given=(), budget=BUDGET, **train):
    recipe = Recipe("x", "x", None, train=TrainConfig(**{"batch_size": 32} | train), budget=budget)
    changes = (change.partition("=") for change in fitted_settings(recipe, images, given))
    return {name: ast.literal_eval(value) for name, _, value in changes}


def test_a_recipe_without_a_budget_stays_as_it_is() -> None:
    assert settings(720, budget=Budget()) == {}


def test_what_is_fitted_to_720_images() -> None:
    assert settings(720) == {
        "train.batch_size": 32,
        "train.epochs": 55.6,
        "optim.warmup_epochs": 5.56,
        "method.mask.start_epoch": 13.0,
    }


def test_what_the_user_gave_stays_and_the_rest_follows() -> None:
    found = settings(720, ["train.epochs", "train.batch_size"], epochs=10.0, batch_size=64)
    assert found == {"optim.warmup_epochs": 1.0, "method.mask.start_epoch": 2.0}
    assert "optim.warmup_epochs" not in settings(720, ["optim.warmup_epochs"])


def test_a_section_that_the_user_gave_stays() -> None:
    assert set(settings(720, ["train"])) == {"optim.warmup_epochs", "method.mask.start_epoch"}
    assert settings(720, ["trainer", "train.epoch"]) == settings(720)


@pytest.mark.parametrize(
    ("images", "batch"),
    [(1, 2), (7, 2), (8, 2), (15, 2), (16, 4), (20, 4), (127, 16), (128, 32), (10**6, 32)],
)
def test_an_epoch_has_a_few_batches(images, batch) -> None:
    assert fitting_batch(32, images, 4) == batch
    assert images < 8 or images // batch >= 4


@pytest.mark.parametrize(
    ("images", "epochs"), [(20, 400.0), (200, 200.0), (720, 55.6), (80_000, 0.5)]
)
def test_images_seen_are_bounded_and_so_are_epochs(images, epochs) -> None:
    assert fitting_epochs(BUDGET, images) == epochs
    assert epochs * images <= 1.01 * BUDGET.images


def test_a_start_in_whole_epochs_comes_before_the_run_ends() -> None:
    """A run of half an epoch would otherwise wait for an epoch that never comes."""
    assert settings(80_000)["method.mask.start_epoch"] == 0.0
    assert settings(80_000)["optim.warmup_epochs"] == 0.05
