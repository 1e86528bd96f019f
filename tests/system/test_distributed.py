"""Many processes, or many micro-batches, are one batch: losses, centres, gradients and weights.

Momenta stand for gradients: after five steps `exp_avg` is their running mean. A third of every
qkv.bias, the keys', has an exactly-zero gradient, and so has a bias before a batch norm: their
updated weights are AdamW's round-off.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sslbench.errors import UserError
from sslbench.recipes.recipe import Recipe
from sslbench.storage import checkpoint
from sslbench.system.distributed import World
from sslbench.training.dry_run import report
from sslbench.training.log import LOG, read_log
from sslbench.training.run import load_views, set_up
from tests.pictures import write_images
from tests.training import small

NO_GRADIENT = ("qkv.bias",)
HALF_MASKED = {"mask": {"ratios": [[0.0, 0.0], [0.3, 0.2]]}}  # images without a mask count too
WHOLE_BATCH = [  # settings that tie the images of a batch together
    ("dino", "head_batch_norm", True),
    ("ibot", "head_batch_norm", True),
    ("ibot", "count_unmasked", False),
]
# biases before a batch norm, and its running means, which shift with them (test_batch_norm.py)
NORMED = ("backbone.norm.bias", "head.layers.0.bias", "head.layers.1.bias", "running_mean")
LR_SUM = 5e-3  # five steps at most 1e-3 long: as far as a weight may have gone
SPLITTING_METHODS = ("dino", "ibot")  # BEiT averages over masked patches per process (trap T4)


def recipe(method: str, images: Path, accumulate: int = 1, /, **settings: bool) -> Recipe:
    return small.recipe(
        method,
        images,
        method=HALF_MASKED | settings if method == "ibot" else settings,
        backbone={"drop_path": 0.0},
        optim={"clip": None},
        train={"epochs": 1, "accumulate": accumulate},
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory, images):
    """The runs of one process, by method."""
    folder = tmp_path_factory.mktemp("alone")
    return {m: small.train(recipe(m, images), folder / m) for m in SPLITTING_METHODS}


def assert_same_run(out: Path, reference: Path) -> None:
    """Five steps, equal up to rounding."""
    assert_same_losses(out, reference)
    state, wanted = checkpoint.load_state(out), checkpoint.load_state(reference)
    for mine, theirs in zip(momenta(state), momenta(wanted), strict=True):
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm() + 1e-6
    normed = any("running_mean" in name for name in wanted["method"])
    idle = NO_GRADIENT + NORMED if normed else NO_GRADIENT
    for name, value in wanted["method"].items():
        if not name.endswith(idle):
            moved = 1e-2 if "student" in name else 1e-4  # AdamW turns rounding into whole steps
            assert torch.allclose(state["method"][name], value, rtol=0, atol=moved * LR_SUM), name


def momenta(state: dict) -> list[Tensor]:
    return [entry["exp_avg"] for entry in state["optimizer"]["state"].values()]


def assert_same_losses(out: Path, reference: Path) -> None:
    mine, theirs = read_log(out), read_log(reference)
    assert len(mine) == len(theirs) == 5
    for key in ("loss", "teacher_entropy", "grad_norm"):
        got, wanted = ([record[key] for record in run] for run in (mine, theirs))
        assert got == pytest.approx(wanted, rel=2e-5), key


@pytest.mark.parametrize("method", SPLITTING_METHODS)
def test_two_processes_equal_one(tmp_path, images, alone, method) -> None:
    out = small.train_together(2, recipe(method, images), tmp_path)
    assert_same_run(out, alone[method])


@pytest.mark.parametrize("method", SPLITTING_METHODS)
def test_two_micro_batches_equal_one(tmp_path, images, alone, method) -> None:
    out = small.train(recipe(method, images, 2), tmp_path)
    assert_same_run(out, alone[method])


@pytest.mark.parametrize(("method", "key", "value"), WHOLE_BATCH)
def test_two_processes_share_what_needs_the_whole_batch(
    tmp_path, images, method, key, value
) -> None:
    whole = recipe(method, images, **{key: value})
    alone = small.train(whole, tmp_path / "alone")
    assert_same_run(small.train_together(2, whole, tmp_path / "two"), alone)


@pytest.mark.parametrize(("method", "accumulate"), [("dino", 2), ("dvae", 1)])
def test_what_is_random_in_a_step_belongs_to_its_samples(
    tmp_path, images, method, accumulate
) -> None:
    """P27: drop path and relaxed codes were drawn anew on each process."""
    run = small.recipe(method, images, optim={"clip": None}, train={"epochs": 1})
    alone = small.train(run, tmp_path / "alone")
    shared = replace(run, train=replace(run.train, accumulate=accumulate))
    two = small.train_together(2, shared, tmp_path / "two")
    for key in ("loss", "grad_norm"):
        mine, wanted = ([record[key] for record in read_log(out)] for out in (two, alone))
        assert mine == pytest.approx(wanted, rel=2e-5), key


def test_a_logged_value_is_that_of_the_whole_batch(tmp_path, images, alone) -> None:
    """P27: iBOT's patch_entropy was of the first crops that a process had."""
    out = small.train_together(2, recipe("ibot", images), tmp_path)
    mine, wanted = ([r["patch_entropy"] for r in read_log(run)] for run in (out, alone["ibot"]))
    assert mine == pytest.approx(wanted, rel=1e-5)


def test_two_processes_share_norms_that_are_apart(tmp_path, images) -> None:
    """What the embedded recipes use."""
    whole = recipe("ibot", images, head_batch_norm=True, head_batch_norm_apart=True)
    alone = small.train(whole, tmp_path / "alone")
    assert_same_run(small.train_together(2, whole, tmp_path / "two"), alone)


@pytest.mark.parametrize(("method", "key", "value"), WHOLE_BATCH)
def test_what_needs_the_whole_batch_is_not_accumulated(
    tmp_path, images, method, key, value
) -> None:
    """The statistics of parts are not the batch's: refused before anything is written."""
    whole, out = recipe(method, images, 2, **{key: value}), tmp_path / "run"
    wanted = rf"train\.accumulate=2 does not go with method\.{key}={value}, .*accumulate=1 "
    for start in (lambda: small.train(whole, out), lambda: report(whole)):
        with pytest.raises(UserError, match=wanted):
            start()
    assert not out.exists()


def test_the_comparison_sees_a_changed_step(tmp_path, images, alone) -> None:
    other = small.recipe(
        "dino", images, backbone={"drop_path": 0.0}, train={"epochs": 1}, optim={"clip": 0.01}
    )
    out = small.train(other, tmp_path)
    with pytest.raises(AssertionError):
        assert_same_run(out, alone["dino"])


def test_two_processes_with_two_micro_batches_each(tmp_path, images, alone) -> None:
    out = small.train_together(2, recipe("ibot", images, 2), tmp_path)
    assert_same_run(out, alone["ibot"])


def test_broken_files_that_any_process_meets_are_named_once(tmp_path) -> None:
    folder = write_images(tmp_path / "images")
    for name in ("003.png", "011.png", "030.png"):
        (folder / name).write_bytes(b"broken")
    whole = recipe("dino", folder)
    out = small.train_together(2, whole, tmp_path / "run")
    lines = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    notes = [line["note"] for line in lines if "skipped broken image" in line.get("note", "")]
    assert sorted(note.partition(".png: ")[0][-3:] for note in notes) == ["003", "011", "030"]


def test_a_batch_must_be_shareable(images) -> None:
    run = set_up(recipe("dino", images), Path("unused"), small.ALONE)
    run = replace(run, world=World(0, 3, torch.device("cpu")))
    with pytest.raises(UserError, match=r"batch_size=8 cannot be shared by 3 processes .* of 3\."):
        load_views(run, 0)
