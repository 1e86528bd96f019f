"""Runs that start from weights: what they record, how they resume, what is refused at once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from sslbench.evaluation.loading import load_models
from sslbench.recipes.identity import kept_settings
from sslbench.recipes.load import load_recipe
from sslbench.recipes.recipe import Recipe
from sslbench.reporting.labels import label_rows
from sslbench.reporting.rows import group_rows
from sslbench.storage import layout
from sslbench.system.printing import SafeConsole
from sslbench.training import runs
from sslbench.training.presets import with_start
from sslbench.training.run import set_up
from sslbench.training.start import start
from tests.reporting.records import record

from . import small


@pytest.fixture(scope="module")
def source(tmp_path_factory, images) -> Path:
    """A finished run of DINO."""
    return small.train(small.recipe("dino", images), tmp_path_factory.mktemp("source") / "first")


def going_on(images, source, method: str = "dino", **sections) -> Recipe:
    return small.recipe(method, images, init={"source": str(source)}, **sections)


@pytest.fixture(scope="module")
def further(tmp_path_factory, images, source) -> Path:
    """A run that started from `source`."""
    return small.train(going_on(images, source), tmp_path_factory.mktemp("further") / "second")


def test_a_run_continues_where_every_part_of_the_other_ended(tmp_path, images, source) -> None:
    run = set_up(going_on(images, source), tmp_path, small.ALONE)
    state = torch.load(source / layout.STATE, weights_only=True)["method"]
    mine = run.method.state_dict()
    assert state.keys() == mine.keys()
    assert all(torch.equal(mine[name], state[name]) for name in state)


def test_weights_alone_give_the_teacher_to_both_networks(tmp_path, images, source) -> None:
    (tmp_path / "moved").mkdir()
    shutil.copy(source / layout.WEIGHTS, tmp_path / "moved")
    run = set_up(going_on(images, tmp_path / "moved"), tmp_path, small.ALONE)
    teacher = load_backbone(source).backbone.state_dict()
    for name in ("student", "teacher"):
        mine = run.method.get_submodule(f"{name}.backbone").state_dict()
        assert all(torch.equal(mine[key], teacher[key]) for key in teacher)
    assert "the centre is new" in run.notes


def test_the_card_says_what_it_started_from_and_a_moved_source_is_the_same(
    tmp_path, images, source, further
) -> None:
    before, after = load_backbone(source).card, load_backbone(further).card
    assert after.started_from == {
        "name": "first", "sha256": before.sha256, "method": "dino", "steps": 15,
        "recipe": "small/dino", "recipe_digest": before.recipe_digest,
    }  # fmt: skip
    assert before.started_from == {} and after.recipe_digest != before.recipe_digest
    moved = shutil.copytree(source, tmp_path / "elsewhere")
    again = load_backbone(small.train(going_on(images, moved), tmp_path / "third")).card
    assert again.recipe_digest == after.recipe_digest and again.sha256 == after.sha256


def test_other_weights_and_new_heads_are_other_trainings(tmp_path, images, source, further) -> None:
    one_epoch = {"train": {"epochs": 1}}
    fresh = small.recipe("dino", images, **one_epoch)
    new = small.recipe("dino", images, init={"source": str(source), "heads": "new"}, **one_epoch)
    other = going_on(images, "random-init:vit_nano/8@32?seed=3", **one_epoch)
    same = going_on(images, source, **one_epoch)
    runs = [small.train(r, tmp_path / str(i)) for i, r in enumerate((fresh, new, other, same))]
    assert len({load_backbone(run).card.recipe_digest for run in runs}) == 4


def test_a_resumed_run_does_not_need_its_source(tmp_path, images, source, further) -> None:
    moved = shutil.copytree(source, tmp_path / "gone")
    recipe, out = going_on(images, moved), tmp_path / "run"
    dying = small.start(small.train_and_die, recipe, out, 8, "log")
    dying.join(60)
    shutil.rmtree(moved)
    small.train(recipe, out, resume=True)
    assert load_backbone(out).card.sha256 == load_backbone(further).card.sha256
    assert load_backbone(out).card.started_from["name"] == "gone"
    assert small.losses(out) == small.losses(further)


def test_settings_of_a_recipe_without_a_start_are_those_of_before(images) -> None:
    assert not [name for name in kept_settings(small.recipe("dino", images)) if "init" in name]
    started = kept_settings(going_on(images, "x"))
    assert "init.heads" in started and "init.source" not in started


def test_the_source_is_evaluated_in_the_row_before(source, further, tmp_path) -> None:
    models, broken = load_models([str(further)], None)
    assert [m.card.sha256 for m in models.values()] == [
        load_backbone(p).card.sha256 for p in (source, further)
    ]
    assert not broken
    both, _ = load_models([str(source), str(further)], None)
    assert list(both) == [str(source), str(further)]
    records = [replace(record(), model=m.card) for m in reversed(models.values())]
    rows = group_rows([*records, record("dino", recipe="small/dino2", sha256="a" * 64)])
    order = [rows[key][0].model.sha256 for key in rows]
    first, second = (m.card.sha256 for m in models.values())
    assert order.index(second) == order.index(first) + 1
    column = next(c for c in label_rows(rows).columns if c.field == "started_from")
    assert sorted(column.texts.values()) == ["first", "–", "–"]


def test_a_source_that_is_gone_is_named_and_left_out(tmp_path, images, source, caplog) -> None:
    moved = shutil.copytree(source, tmp_path / "gone")
    out = small.train(going_on(images, moved, train={"epochs": 1}), tmp_path / "run")
    shutil.rmtree(moved)
    models, _ = load_models([str(out)], None)
    assert list(models) == [str(out)]
    assert "started from gone, which is not evaluated beside it" in caplog.text


def preset(source, method: str = "dino", *changes: str) -> Recipe:
    config, changed = with_start(str(source), method, None, changes)
    return load_recipe(config, method, changed)


def test_without_a_config_sizes_follow_the_weights(source) -> None:
    recipe = preset(source)
    assert recipe.name == "init/dino"
    backbone, method = recipe.backbone, recipe.method
    assert (backbone.name, backbone.patch_size, backbone.image_size) == ("vit_nano", 8, 32)
    assert (method.out_dim, method.hidden_dim, method.bottleneck_dim) == (32, 32, 16)
    assert (method.views.global_size, method.views.local_size) == (32, 16)
    assert recipe.optim.lr <= 1e-4 and method.momentum >= 0.999
    trained_with = small.recipe("dino", source).method
    assert method.teacher_temp == trained_with.teacher_temp == method.warmup_teacher_temp


def test_what_the_user_sets_counts_and_new_heads_have_the_presets_sizes(source) -> None:
    recipe = preset(source, "ibot", "init.heads=new", "optim.lr=1e-5", "backbone.image_size=48")
    assert recipe.optim.lr == 1e-5 and recipe.backbone.image_size == 48
    assert recipe.method.out_dim == 4096
    assert (recipe.method.views.global_size, recipe.method.views.local_size) == (48, 24)


def test_a_beit_takes_as_many_codes_as_patches(source, tokenizer) -> None:
    needs = f"needs.tokenizer={str(tokenizer)!r}"
    recipe = preset("random-init:beit_nano/8@64?positions=relative", "beit", needs)
    assert recipe.method.views.token_size == 64 and recipe.backbone.positions == "relative"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"resume": True}, "--init starts a new run and --resume continues one"),
        ({"init": ""}, "--init '' names no weights"),
        ({"changes": ["init.source=x"]}, "contradicts --set init.source=x"),
        ({"init": "nowhere"}, "'nowhere' does not exist"),
        ({"init": "pixels:32"}, "no weights to start from"),
        ({"changes": ["backbone.name=vit_tiny"]}, "set backbone.name=vit_nano"),
        ({"changes": ["method.out_dim=64"]}, "set init.heads=new"),
        ({"changes": ["backbone.layer_scale=0.1"]}, "set backbone.layer_scale=0"),
        ({"method": "beit", "init": "random-init:swin_nano/4@64"}, "BEiT trains vit_.*not Swin"),
    ],
)
def test_bad_combinations_are_one_sentence_and_write_nothing(
    tmp_path, images, source, options, reason
) -> None:
    values = {"method": "dino", "changes": [], "resume": False, "init": str(source)} | options
    changes = ["run.threads=1", *values["changes"]]
    with pytest.raises(UserError, match=reason) as error:
        start(
            values["method"], None, str(images), tmp_path / "out", changes, values["resume"], 1,
            SafeConsole(file=Console().file), init=values["init"],
        )  # fmt: skip
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.iterdir())


def test_a_config_that_names_a_source_is_not_overruled(tmp_path, images, source) -> None:
    config = small.write_config(tmp_path / "c.py", "dino", images, init={"source": str(source)})
    with pytest.raises(UserError, match=r"--init other contradicts init.source="):
        with_start("other", None, str(config), [])
    recipe, _ = runs.choose_recipe(None, str(config), None, [])
    assert recipe.init.source == str(source)
