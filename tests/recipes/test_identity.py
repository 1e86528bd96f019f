"""T2: runs that differ in any setting are no repetitions of each other, and say in what."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sslbench import plugins
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.modules import needed_identity
from sslbench.recipes.identity import ADDED, changed_settings, identify
from sslbench.recipes.load import load_recipe
from tests.training import small


def digest_of(*changes: str, config: str = "shapes/ibot", data: str = "d", needs=None) -> str:
    recipe = load_recipe(config, None, changes)
    return identify(recipe, data, needs or {}, plugins.METHODS).digest


@pytest.mark.parametrize(
    "change",
    [
        "train.seed=7", "run.workers=0", "run.save_every=3", "about.notes=x", "name=mine",
        "data.source=elsewhere",
    ],
)  # fmt: skip
def test_what_cannot_move_the_weights_is_no_other_recipe(change: str) -> None:
    assert digest_of(change) == digest_of()


@pytest.mark.parametrize(
    "change",
    [
        "optim.lr=1e-1", "optim.betas=(0.9,0.99)", "train.batch_size=32", "train.precision=fp32",
        "method.patch_weight=0.0", "method.views.local_crops=2", "method.mask.start_epoch=0.25",
        "backbone.drop_path=0.1", "data.mean=(0.5,0.5,0.5)", "data.split=validation",
    ],
)  # fmt: skip
def test_any_other_setting_is_another_recipe_and_named(change: str) -> None:
    recipe = load_recipe("shapes/ibot", None, [change])
    found = identify(recipe, "d", {}, plugins.METHODS)
    assert found.digest != digest_of()
    assert list(found.settings) == [change.partition("=")[0]]


@pytest.mark.parametrize(
    ("config", "epochs", "digest"),
    [
        ("reference/ibot", 8.0, "fd1989152518"),
        ("reference/dino", 8.0, "18804eda9792"),
        ("photos/beit", 50.0, "7ab831e6e479"),
        ("papers/ibot_vit-small-p16_16xb64-coslr-800e_in1k", 800.0, "c3f2daa0044d"),
    ],
)
def test_settings_added_later_leave_the_digests_of_before(
    config: str, epochs: float, digest: str
) -> None:
    """Digests computed at commit 7c1fce6, which had none of the settings of `ADDED`.

    epochs: those of the config then.
    """
    assert digest_of(f"train.epochs={epochs}", config=config) == digest


def test_the_value_that_means_as_before_is_the_default() -> None:
    """Otherwise a recipe that does not name the setting would not keep its digest."""
    sections = load_recipe("shapes/ibot").to_dict()
    names = [name.split(".") for name in ADDED]
    values = {f"{s}.{key}": sections[s][key] for s, key in names if key in sections.get(s, {})}
    assert len(values) >= 3
    assert values.items() <= ADDED.items()


@pytest.mark.parametrize(
    "change", ["optim.layer_decay=0.75", "optim.warmup_lr=1e-6", "optim.schedule=epoch"]
)
def test_a_setting_added_later_counts_where_it_is_used(change: str) -> None:
    name, _, value = change.partition("=")
    recipe = load_recipe("shapes/ibot", None, [change])
    assert digest_of(change) != digest_of() == digest_of(f"{name}={ADDED[name]}")
    assert [str(v) for v in changed_settings(recipe, plugins.METHODS).values()] == [
        value.replace("1e-6", "1e-06")
    ]


def test_the_installed_config_itself_has_nothing_to_name() -> None:
    for config in (
        "shapes/dino",
        "reference/beit",
        "papers/ibot_swin-tiny-w7_16xb64-coslr-300e_in1k",
    ):
        recipe = load_recipe(config, None, ["train.seed=3"])
        assert identify(recipe, "", {}, plugins.METHODS).settings == {}


def test_other_data_or_another_tokenizer_is_another_training() -> None:
    plain = digest_of(config="shapes/beit", needs={"tokenizer": "t"})
    assert digest_of(config="shapes/beit", needs={"tokenizer": "u"}) != plain
    assert digest_of(config="shapes/beit", needs={"tokenizer": "t"}, data="e") != plain


@pytest.mark.parametrize(
    "change", ["method.mask.start_epoch=0", "method.views.flip=0.5", "optim.lr=5e-4"]
)
def test_a_default_that_is_written_out_is_the_same_recipe(tmp_path: Path, change: str) -> None:
    """The default of a float may be the integer 0; a run's card gives back 0.0."""
    path = tmp_path / "mine.py"
    path.write_text("method = dict(name='ibot')\n")
    plain = digest_of(config=str(path))
    assert digest_of(change, config=str(path)) == plain
    assert digest_of("method.mask.start_epoch=1", config=str(path)) != plain


def test_what_is_unknown_is_not_the_same() -> None:
    """Runs of an older version do not say what their data held, nor is a tokenizer still there."""
    told = {
        (data, tokenizer): digest_of(
            f"data.source={data}",
            f"needs.tokenizer={tokenizer}",
            config="shapes/beit",
            data="",
            needs={"tokenizer": ""},
        )
        for data in ("a", "b")
        for tokenizer in ("x", "y")
    }
    assert len(set(told.values())) == 4


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    found = []
    for folder, rate in (("a", 1e-3), ("b", 1e-1)):
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir()
        path.write_text(f"method = dict(name='dino')\noptim = dict(lr={rate})\n")
        recipe = load_recipe(str(path))
        assert recipe.name == "mine"
        found.append(identify(recipe, "d", {}, plugins.METHODS))
    assert found[0].digest != found[1].digest
    assert found[0].settings["optim.lr"] == 1e-3 and found[1].settings["optim.lr"] == 1e-1


def test_the_card_of_a_run_holds_it(dino_run: Path, labelled: Path) -> None:
    card = load_backbone(dino_run).card
    assert card.identified == "run"
    assert card.recipe_digest and card.data_fingerprint
    assert card.pretrain_data == labelled.name
    assert card.settings["train.epochs"] == 1.0  # a recipe made here: what is not the default
    again = load_backbone(str(dino_run / "weights.safetensors")).card
    assert again.recipe_digest == card.recipe_digest


def test_tokenizers_of_two_seeds_are_repetitions(
    images: Path, tokenizer: Path, tmp_path: Path
) -> None:
    recipe = small.recipe("dvae", images, train={"epochs": 1})
    seed = replace(recipe, train=replace(recipe.train, seed=1))
    other = small.train(seed, tmp_path / "seed1")
    longer = small.train(replace(recipe, train=replace(recipe.train, epochs=2.0)), tmp_path / "two")
    known = [needed_identity(run, plugins.TOKENIZERS) for run in (tokenizer, other, longer)]
    assert known[0] == known[1] != known[2]
    assert needed_identity("random-init:dvae", plugins.TOKENIZERS) == "random-init:dvae"
    assert needed_identity(tmp_path / "gone", plugins.TOKENIZERS) == ""


def test_a_moved_tokenizer_stays_the_same_training(
    images: Path, tokenizer: Path, tmp_path: Path
) -> None:
    place = shutil.copytree(tokenizer, tmp_path / "tokenizer")
    run = small.train(
        small.recipe("beit", images, train={"epochs": 1}, needs={"tokenizer": str(place)}),
        tmp_path / "run",
    )
    before = load_backbone(run).card.recipe_digest
    shutil.rmtree(place)
    assert load_backbone(run).card.recipe_digest == before
