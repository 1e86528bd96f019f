"""A run that is killed goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from sslbench.errors import UserError
from sslbench.recipes.recipe import Recipe
from sslbench.storage import checkpoint, layout, sealed, weights
from sslbench.training.log import LOG, read_log

from . import small

STEPS = 15
BF16 = {"train": {"precision": "bf16"}}
LAYERS = {"layer_decay": 0.5, "schedule": "epoch", "warmup_epochs": 1.0, "warmup_lr": 1e-5}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, images, tokenizer):
    """whole(method, **sections): a recipe and the directory of its uninterrupted run."""
    known = {}

    def run(method: str, **sections) -> tuple[Recipe, Path]:
        key = method, repr(sections)
        if key not in known:
            if method == "beit":
                sections["needs"] = {"tokenizer": str(tokenizer)}
            recipe = small.recipe(method, images, **sections)
            known[key] = recipe, small.train(recipe, tmp_path_factory.mktemp(method) / "whole")
        return known[key]

    return run


def go_on(out: Path, workers: int) -> None:
    """Resumes as the command does, with the recipe found there and other workers."""
    values = json.loads((out / layout.CONFIG).read_text())
    values["run"]["workers"] = workers
    group = small.group_of(values["method"]["name"])
    small.train(small.recipe_from_dict(values, group), out, resume=True)


def sha_of(out: Path) -> str:
    return weights.read_weights(out / layout.WEIGHTS)[1]["sha256"]


@pytest.mark.parametrize(
    ("method", "step", "where", "sections"),
    [
        *(("ibot", step, "log", {}) for step in small.kill_points(0, STEPS, 3)),
        ("dino", small.kill_points(1, STEPS, 1)[0], "log", {}),
        ("dino", small.kill_points(2, STEPS, 1)[0], "log", BF16),
        ("beit", small.kill_points(3, STEPS, 1)[0], "log", {}),
        ("ibot", 8, "log", {"optim": LAYERS}),  # in the middle of an epoch
        ("ibot", 9, "half", {}),
        ("ibot", 6, "between", {}),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, whole, method, step, where, sections) -> None:
    recipe, reference = whole(method, **sections)
    killed = small.start(small.train_and_die, recipe, tmp_path / "run", step, where)
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "run" / layout.WEIGHTS).exists()
    go_on(tmp_path / "run", workers=step % 2)
    assert small.losses(tmp_path / "run") == small.losses(reference)
    assert sha_of(tmp_path / "run") == sha_of(reference)
    assert not list((tmp_path / "run").glob(".*"))


def test_a_kill_from_outside_may_come_at_any_time(tmp_path, whole) -> None:
    recipe, reference = whole("ibot")
    out = tmp_path / "run"
    process = small.start(small.train_and_hold, recipe, out, 5)
    while not (out / LOG).exists() or len(read_log(out)) < 5:
        assert process.is_alive()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    go_on(out, workers=2)
    assert small.losses(out) == small.losses(reference)


def test_drop_path_draws_matter_here(tmp_path, whole, images) -> None:
    _, reference = whole("dino")
    still = small.recipe("dino", images, backbone={"drop_path": 0.0}, train={"epochs": 1})
    first, other = small.losses(reference)[0], small.losses(small.train(still, tmp_path / "run"))[0]
    assert first["loss"] != other["loss"]


def test_another_seed_gives_another_run(tmp_path, whole, images) -> None:
    _, reference = whole("dino")
    other = small.train(small.recipe("dino", images, train={"epochs": 1, "seed": 1}), tmp_path)
    assert small.losses(other)[0]["loss"] != small.losses(reference)[0]["loss"]


def test_a_checkpoint_holds_tensors_and_plain_containers_only(whole) -> None:
    _, reference = whole("ibot")
    state = torch.load(reference / layout.STATE, weights_only=True)
    assert state["step"] == STEPS
    assert torch.load(reference / layout.PREVIOUS, weights_only=True)["step"] == STEPS - 3


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path, whole) -> None:
    _, reference = whole("dino")
    for name in (layout.CONFIG, LOG):
        (tmp_path / name).write_bytes((reference / name).read_bytes())
    (tmp_path / layout.STATE).write_bytes((reference / layout.PREVIOUS).read_bytes())
    with (tmp_path / LOG).open("a") as log:
        log.write('{"step": 16, "loss"')
    go_on(tmp_path, workers=0)
    assert [record["step"] for record in read_log(tmp_path)] == list(range(1, STEPS + 1))
    assert small.losses(tmp_path) == small.losses(reference)


def test_a_finished_run_resumed_stays_as_it_is(tmp_path, images) -> None:
    small.train(small.recipe("dino", images, train={"epochs": 1}), tmp_path)
    before, sha = small.losses(tmp_path), sha_of(tmp_path)
    go_on(tmp_path, workers=0)
    assert small.losses(tmp_path) == before
    assert sha_of(tmp_path) == sha


def test_other_data_are_refused(tmp_path, images) -> None:
    recipe = small.recipe("dino", small.write_images(tmp_path / "own"), train={"epochs": 1})
    small.train(recipe, tmp_path / "run")
    small.write_images(tmp_path / "own", count=41)
    with pytest.raises(UserError, match="trained on other data"):
        go_on(tmp_path / "run", workers=0)


def copied(reference: Path, out: Path) -> Path:
    """A run directory without its weights, as before the end."""
    shutil.copytree(reference, out)
    (out / layout.WEIGHTS).unlink()
    return out


@pytest.mark.parametrize("place", [0.3, 0.8])
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, whole, caplog, place) -> None:
    _, reference = whole("dino")
    out = copied(reference, tmp_path / "run")
    data = bytearray((out / layout.STATE).read_bytes())
    data[int(place * len(data))] ^= 1
    (out / layout.STATE).write_bytes(data)
    go_on(out, workers=0)
    assert f"Resuming from {out / layout.PREVIOUS}, step {STEPS - 3}." in caplog.text
    assert small.losses(out) == small.losses(reference)
    assert sha_of(out) == sha_of(reference)


def test_the_state_of_another_seed_is_refused(tmp_path, whole, images) -> None:
    _, reference = whole("dino")
    other = small.train(
        small.recipe("dino", images, train={"epochs": 3, "seed": 1}), tmp_path / "other"
    )
    out = copied(reference, tmp_path / "run")
    shutil.copy(other / layout.STATE, out)
    with pytest.raises(UserError, match=r"another run \(train\.seed 1, not 0\)"):
        go_on(out, workers=0)


def test_a_setting_edited_by_hand_is_refused(tmp_path, whole) -> None:
    _, reference = whole("dino")
    out = copied(reference, tmp_path / "run")
    values = json.loads((out / layout.CONFIG).read_text())
    values["optim"]["lr"] = 0.5
    (out / layout.CONFIG).write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"another run \(optim\.lr 0\.001, not 0\.5\)"):
        go_on(out, workers=0)


def test_a_state_without_its_parts_is_one_sentence(tmp_path, whole) -> None:
    _, reference = whole("dino")
    out = copied(reference, tmp_path / "run")
    state = checkpoint.load_state(out)
    (out / layout.PREVIOUS).unlink()
    for part in ("method", "optimizer", "step"):
        lacking = {k: v for k, v in state.items() if k != part}
        sealed.save_checked(out / layout.STATE, lacking)
        with pytest.raises(UserError, match=rf"state\.pt is damaged \(it has no '{part}'\) and"):
            go_on(out, workers=0)
    sealed.save_checked(out / layout.STATE, {**state, "optimizer": {"of": "another kind"}})
    with pytest.raises(UserError, match="holds other weights than its recipe has"):
        go_on(out, workers=0)
