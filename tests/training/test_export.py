"""Weights while a run goes on: written every so many epochs, or of its newest checkpoint."""

from __future__ import annotations

import shutil

import pytest

from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from sslbench.storage import layout, weights
from sslbench.training.export import at_step, export_run

from . import small


@pytest.fixture(scope="module")
def run(tmp_path_factory, images):
    """15 steps of iBOT, weights every epoch of 5, a checkpoint every 3."""
    recipe = small.recipe("ibot", images, run={"export_every": 1})
    return small.train(recipe, tmp_path_factory.mktemp("run") / "run")


def card(path):
    return weights.read_weights(path)[1]


def test_weights_are_written_every_so_many_epochs(run) -> None:
    found = sorted(path.name for path in run.glob("weights-*"))
    assert found == [at_step(run, step).name for step in (5, 10, 15)]
    assert [card(at_step(run, step))["epochs"] for step in (5, 10, 15)] == [1, 2, 3]
    last = weights.read_weights(run / layout.WEIGHTS)[1]
    assert card(at_step(run, 15)) == last
    assert card(at_step(run, 5))["sha256"] != last["sha256"]


def test_a_checkpoint_gives_the_weights_that_its_run_would_have_written(run, tmp_path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    wanted = card(out / layout.WEIGHTS)
    for path in out.glob("weights*"):
        path.unlink()
    path = export_run(out)
    assert path == at_step(out, 15)
    assert card(path) == wanted
    assert load_backbone(path).card.epochs == 3

    shutil.copy(out / layout.PREVIOUS, out / layout.STATE)  # as if it had stopped there
    assert card(export_run(out, tmp_path / "mine.safetensors"))["steps"] == 12
    assert not at_step(out, 12).exists()


def test_looking_at_a_damaged_checkpoint_leaves_it_to_the_run(run, tmp_path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / layout.STATE).write_bytes(b"PK")
    assert card(export_run(out, tmp_path / "a.safetensors"))["steps"] == 12
    assert (out / layout.STATE).read_bytes() == b"PK"
    assert not (out / layout.DAMAGED).exists()


def test_what_holds_no_run_is_one_sentence(tmp_path) -> None:
    with pytest.raises(UserError, match=r"holds no run \(config\.json is missing\)"):
        export_run(tmp_path)
