"""How runs end, and how they go on: signals, deaths, data that moved, files that are not theirs."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sslbench.storage import checkpoint, layout, weights
from sslbench.training.log import RunLog, read_log
from tests.cli.ended import assert_one_sentence, snapshot
from tests.training import small

WHOLE = ("pretrain", "--out", "run", "--set", "train.epochs=1")
GO_ON = ("pretrain", "--out", "run", "--resume")


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


@pytest.fixture
def at_step(monkeypatch):
    """at_step(n, act): `act()` once the log has a line of step n."""

    def set_up(step: int, act) -> None:
        write = RunLog.write

        def acting(self, values) -> None:
            write(self, values)
            if values["step"] == step:
                act()

        monkeypatch.setattr(RunLog, "write", acting)

    return set_up


@pytest.fixture
def stopped(tmp_path, dino_run) -> Path:
    """The run of `dino_run` as it was after three of its five steps."""
    run = shutil.copytree(dino_run, tmp_path / "run")
    shutil.move(run / layout.PREVIOUS, run / layout.STATE)
    (run / layout.WEIGHTS).unlink()
    return run


def sha256(run: Path) -> str:
    return weights.read_weights(run / layout.WEIGHTS)[1]["sha256"]


def test_signals_are_heeded_before_anything_slow_is_imported() -> None:
    """A command that was mistyped is ended at once; Python would show a traceback."""
    code = "import sys, sslbench.cli; sys.exit(bool({'typer', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_signal_saves_the_step_it_meets(
    sslbench, tmp_path, places, at_step, monkeypatch, name
) -> None:
    with monkeypatch.context():
        at_step(2, lambda: os.kill(os.getpid(), signal.Signals[name]))
        ended = sslbench(*WHOLE, "--config", places["config"])
    assert ended.code == 128 + signal.Signals[name]
    go_on = "resume it with `sslbench pretrain --resume --out run`"
    assert ended.err == f"stopped by {name}: saved after step 3 of 5; {go_on}\n"
    assert checkpoint.load_state(tmp_path / "run")["step"] == 3
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    again = sslbench(*GO_ON)
    assert again.code == 0, again.err
    assert "resuming after step 3 of 5\n" in again.out
    assert [record["step"] for record in read_log(tmp_path / "run")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("place", ["training.train.train", "training.train.export"])
def test_a_signal_beside_the_steps_says_how_to_go_on(
    sslbench, tmp_path, places, monkeypatch, dino_run, place
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"sslbench.{place}", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        ended = sslbench(*WHOLE, "--config", places["config"], "--data", places["labelled"])
    told = "the newest checkpoint is kept; resume it with `sslbench pretrain --resume --out run`"
    assert (ended.code, ended.err) == (143, f"stopped by SIGTERM: {told}\n")
    again = sslbench(*GO_ON)
    assert again.code == 0, again.err
    assert sha256(tmp_path / "run") == sha256(dino_run)


@pytest.mark.parametrize("writes", ["training.run.save", "storage.files.save_json"])
def test_a_run_that_is_killed_while_it_begins_is_in_nobody_s_way(
    sslbench, tmp_path, places, monkeypatch, writes
) -> None:
    """Neither for the same command nor, once there is a checkpoint, for --resume."""

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"sslbench.{writes}", killed)
        with pytest.raises(Killed):
            sslbench(*WHOLE, "--config", places["config"])
    begun = (tmp_path / "run" / layout.STATE).exists()
    assert begun == (writes == "storage.files.save_json")
    again = sslbench(*(GO_ON if begun else (*WHOLE, "--config", places["config"])))
    assert again.code == 0, again.err


def test_a_run_says_how_long_it_took_where_its_weights_are_and_what_comes_next(
    sslbench, places
) -> None:
    said = sslbench(*WHOLE, "--config", places["config"]).out.splitlines()[-1]
    assert said.startswith("done in 0:00:")
    assert said.endswith(
        "; weights: run/weights.safetensors; evaluate them with `sslbench evaluate --model run`"
    )


def test_a_stopped_run_ends_as_if_it_had_not_been(sslbench, dino_run, stopped) -> None:
    assert sslbench(*GO_ON).code == 0
    assert sha256(stopped) == sha256(dino_run)


def test_a_data_worker_that_dies_is_named(sslbench, places, at_step) -> None:
    at_step(2, lambda: multiprocessing.active_children()[0].kill())
    given = ("--set", "run.workers=1", "--set", "train.epochs=400")
    ended = sslbench(*WHOLE, *given, "--config", places["config"])
    assert_one_sentence(ended, r"(?i)data ?(loader )?worker .*lower run\.workers.*--resume", code=1)


def test_data_may_move(sslbench, tmp_path, labelled, dino_run, stopped, monkeypatch) -> None:
    """P14: what it holds counts, not where it lies."""
    moved = shutil.copytree(labelled, tmp_path / "moved")
    config = json.loads((stopped / layout.CONFIG).read_text())
    config["data"]["source"] = "/gone"
    (stopped / layout.CONFIG).write_text(json.dumps(config))
    assert_one_sentence(sslbench(*GO_ON), "'?/gone'?")
    assert sslbench(*GO_ON, "--data", "moved").code == 0
    assert sha256(stopped) == sha256(dino_run)
    stored = json.loads((stopped / layout.CONFIG).read_text())
    assert stored["data"]["source"] == str(moved)


def test_other_data_is_refused(sslbench, tmp_path, labelled, stopped) -> None:
    other = shutil.copytree(labelled, tmp_path / "other")
    image = next((other / "train").rglob("*.png"))
    shutil.copy(next((other / "test").rglob("*.png")), image)
    before = snapshot(stopped)
    assert_one_sentence(sslbench(*GO_ON, "--data", other), "was trained on other data than")
    assert snapshot(stopped) == before


def test_relative_places_are_stored_so_that_they_hold_everywhere(
    sslbench, tmp_path, places, monkeypatch
) -> None:
    small.write_images(tmp_path / "here" / "photos", 16)
    monkeypatch.chdir(tmp_path / "here")
    given = ("--config", places["config"], "--data", "photos", "--set", "train.epochs=0.5")
    assert sslbench("pretrain", "--out", tmp_path / "run", *given).code == 0
    stored = json.loads((tmp_path / "run" / layout.CONFIG).read_text())
    assert stored["data"]["source"] == str(tmp_path / "here" / "photos")


def test_a_tokenizer_of_another_seed_does_not_take_the_place_of_the_run_s(
    sslbench, tmp_path, places, images, tokenizer
) -> None:
    given = ("--config", places["beit"], "--set", f"needs.tokenizer={tokenizer}")
    assert sslbench(*WHOLE, *given).code == 0
    other = small.recipe("dvae", images, train={"epochs": 1, "seed": 1})
    small.train(other, tmp_path / "other")
    ended = sslbench(*GO_ON, "--set", "needs.tokenizer=other")
    assert_one_sentence(ended, "was trained with another tokenizer than ")


@pytest.mark.parametrize("damage", ["remove", "cut", "other"])
def test_a_recipe_that_is_lost_is_in_the_checkpoint(
    sslbench, dino_run, stopped, caplog, damage
) -> None:
    config = stopped / layout.CONFIG
    if damage == "remove":
        config.unlink()
    else:
        config.write_bytes(config.read_bytes()[:100] if damage == "cut" else b"\xff\xfe")
    assert sslbench(*GO_ON).code == 0
    assert "config.json is " in caplog.text and "the checkpoint says what it held" in caplog.text
    assert sha256(stopped) == sha256(dino_run)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("optim", "lr", 0.5),
        ("train", "seed", 1),
        ("about", "notes", "mine"),
        ("data", "std", [1] * 3),
    ],
)
def test_a_recipe_that_was_edited_is_not_believed(sslbench, stopped, section, key, value) -> None:
    config = json.loads((stopped / layout.CONFIG).read_text())
    config[section][key] = value
    (stopped / layout.CONFIG).write_text(json.dumps(config))
    before = snapshot(stopped)
    assert_one_sentence(sslbench(*GO_ON), rf"belongs to another run \({section}\.{key} ")
    assert snapshot(stopped) == before


def test_a_folder_with_files_of_others_is_left_alone(sslbench, tmp_path, places) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"model": "theirs"}')
    before = snapshot(tmp_path)
    ended = sslbench(*WHOLE, "--config", places["config"])
    assert_one_sentence(ended, r"run holds other files \(config\.json\)")
    assert snapshot(tmp_path) == before
