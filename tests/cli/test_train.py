"""`pretrain` and `tokenizer train` as people type them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sslbench.storage import layout
from sslbench.training import start
from sslbench.training.log import LOG, read_log
from tests.cli.ended import assert_one_sentence
from tests.training import small


def break_images(folder: Path, count: int) -> None:
    for path in sorted(folder.rglob("*.png"))[:count]:
        path.write_bytes(path.read_bytes()[:100])


@pytest.fixture
def pretrain_ibot(sslbench, tmp_path):
    """pretrain_ibot(data): five steps of the small iBOT recipe; the run is in ./run."""

    def call(data: Path):
        config = small.write_config(tmp_path / "ibot.py", "ibot", tmp_path, train={"epochs": 1})
        return sslbench(
            "pretrain", "--method", "ibot", "--config", config, "--data", data, "--out", "run"
        )

    return call


@pytest.mark.parametrize("kind", ["labelled", "images"])
def test_pretraining_needs_no_labels(pretrain_ibot, tmp_path, places, kind) -> None:
    ended = pretrain_ibot(places[kind])
    assert (ended.code, ended.err) == (0, "")
    assert "small/ibot -> run" in ended.out
    assert "step 5/5 loss" in ended.out
    assert len(read_log(tmp_path / "run")) == 5
    assert (tmp_path / "run" / layout.WEIGHTS).exists()


def test_a_few_broken_files_are_skipped_counted_and_named(pretrain_ibot, tmp_path) -> None:
    data = small.write_images(tmp_path / "data")
    break_images(data, 2)  # 5 %
    ended = pretrain_ibot(data)
    assert (ended.code, ended.err) == (0, "")
    said = re.findall(r"skipped broken image (\d): (\S+): ", ended.out)
    assert [number for number, _ in said] == ["1", "2"]
    assert {name for _, name in said} == {str(data / "000.png"), str(data / "001.png")}
    assert (tmp_path / "run" / LOG).read_text().count("skipped broken image") == 2


def test_too_many_broken_files_stop_the_run(pretrain_ibot, tmp_path) -> None:
    data = small.write_images(tmp_path / "data")
    break_images(data, 12)  # 30 %
    ended = pretrain_ibot(data)
    assert_one_sentence(ended, r"12 of the 40 images .* cannot be decoded, more than 20%")
    assert not (tmp_path / "run" / layout.WEIGHTS).exists()


def test_a_run_is_resumed_with_other_workers(sslbench, tmp_path, places) -> None:
    given = ("pretrain", "--method", "dino", "--out", "run")
    assert sslbench(*given, "--config", places["config"], "--set", "train.epochs=1").code == 0
    whole = small.losses(tmp_path / "run")
    shutil.copy(tmp_path / "run" / layout.PREVIOUS, tmp_path / "run" / layout.STATE)
    (tmp_path / "run" / layout.WEIGHTS).unlink()
    assert sslbench(*given, "--resume", "--set", "run.workers=1").code == 0
    assert small.losses(tmp_path / "run") == whole
    assert (tmp_path / "run" / layout.WEIGHTS).exists()


def test_a_folder_may_be_named_by_a_number(sslbench, tmp_path, places) -> None:
    small.write_images(tmp_path / "2012", 16)
    given = ("--config", places["config"], "--data", "2012", "--set", "train.epochs=1")
    assert sslbench("pretrain", "--method", "dino", *given).code == 0
    assert (tmp_path / "runs" / "dino-small-seed0" / layout.WEIGHTS).exists()


def test_a_tokenizer_is_trained_and_judged(sslbench, tmp_path, images) -> None:
    config = small.write_config(tmp_path / "dvae.py", "dvae", images, train={"epochs": 1})
    ended = sslbench("tokenizer", "train", "--config", config, "--out", "run")
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"tokenizer run: mean squared error 0\.\d{4} and \d+ of 16 codes", ended.out)


def test_a_tokenizer_that_nobody_gave_is_trained_first(sslbench, tmp_path, images) -> None:
    """P7: `pretrain --method beit --data PHOTOS` with nothing else said."""
    short = {"train": {"epochs": 1, "seed": 2}}
    dvae = small.write_config(tmp_path / "dvae.py", "dvae", tmp_path, train={"epochs": 1})
    needs = {"tokenizer": f"train:{dvae}"}
    beit = small.write_config(tmp_path / "beit.py", "beit", tmp_path, needs=needs, **short)
    ended = sslbench("pretrain", "--config", beit, "--data", images, "--out", "runs/mine")
    assert (ended.code, ended.err) == (0, "")
    assert "small/beit needs a tokenizer, which is trained first" in ended.out
    folder = Path("runs/dvae-small-seed2")
    assert (folder / layout.WEIGHTS).exists()
    assert json.loads(Path("runs/mine/config.json").read_text())["needs"] == {
        "tokenizer": str(tmp_path / folder)
    }
    assert Path("runs/mine", layout.WEIGHTS).exists()


def test_all_processes_are_told_of_the_tokenizer(sslbench, tmp_path, images, monkeypatch) -> None:
    told = []
    monkeypatch.setattr(start, "launch", lambda arguments, _: told.append(arguments))
    dvae = small.write_config(tmp_path / "dvae.py", "dvae", tmp_path, train={"epochs": 1})
    needs = {"tokenizer": f"train:{dvae}"}
    beit = small.write_config(tmp_path / "beit.py", "beit", images, needs=needs)
    ended = sslbench("pretrain", "--config", beit, "--nproc", "2", "--out", "runs/mine")
    assert (ended.code, ended.err) == (0, "")
    place = "needs.tokenizer='runs/dvae-small-seed0'"
    command = ["-m", "sslbench.cli", "pretrain", "--config", str(beit)]
    expected = [*command, "--set", place, "--out", "runs/mine"]
    assert told == [expected]
    assert Path("runs/dvae-small-seed0", layout.WEIGHTS).exists()


def test_under_torchrun_nothing_is_trained_first(sslbench, tmp_path, images, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("sslbench.cli.leave", sys.exit)
    needs = {"tokenizer": "train:photos/dvae"}
    beit = small.write_config(tmp_path / "beit.py", "beit", images, needs=needs)
    (tmp_path / "my photos").symlink_to(images)
    ended = sslbench("pretrain", "--config", beit, "--data", "my photos", "--out", "run")
    told = (
        "run `sslbench tokenizer train --config photos/dvae --data '.*my photos'` and pass --set "
        "needs.tokenizer=DIR"
    )
    assert_one_sentence(ended, told)
    assert not Path("run").exists()


def test_a_dry_run_needs_no_data_and_writes_nothing(sslbench, tmp_path, places) -> None:
    given = ["--config", places["config"], "--set", "data.source=imagenet-1k", "--dry-run"]
    ended = sslbench("pretrain", *given, "--set", "about.images=1000", "--nproc", "2")
    assert ended.code == 0, ended.err
    assert re.search(r"^  method\.name +dino$", ended.out, re.MULTILINE)
    assert re.search(r"^  steps +375 of 8 images, 125 per epoch$", ended.out, re.MULTILINE)
    assert re.search(r"^memory of each of 2 processes", ended.out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []
    assert_one_sentence(sslbench("pretrain", *given, "--resume"), "--resume .* --dry-run")
    assert_one_sentence(sslbench("pretrain", *given, "--limit", "2"), "--limit .* --dry-run")
    assert_one_sentence(sslbench("pretrain", "--dry-run"), "pass --method NAME or --config NAME")


def test_a_config_says_its_method_itself(sslbench, tmp_path, places) -> None:
    given = ["--config", places["config"], "--set", "train.epochs=0.2", "--out", tmp_path / "run"]
    assert sslbench("pretrain", *given).code == 0
    assert sslbench("pretrain", "--out", tmp_path / "run", "--resume").code == 0


def test_papers_data_is_never_made_up(sslbench, tmp_path) -> None:
    given = ["--config", "papers/dino_vit-base-p16_32xb32-coslr-400e_in1k"]
    assert_one_sentence(sslbench("pretrain", *given), "imagenet-1k .* give the folder with --data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_from_the_command_line(tmp_path, places, labelled) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "sslbench.cli", "pretrain", "--method", "dino", "--nproc", "2"]
    command += ["--config", places["config"], "--set", "train.epochs=1", "--out", run]
    command += ["--set", "backbone.drop_path=0.0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "already holds" not in done.stderr
    assert [record["step"] for record in read_log(run)] == [1, 2, 3, 4, 5]
    assert (run / layout.WEIGHTS).exists()


def test_p10_a_warm_up_that_never_ends_is_told_before_training(sslbench, places) -> None:
    given = ("pretrain", "--config", places["config"], "--set", "optim.warmup_epochs=4")
    told = "warning: optim.warmup_epochs=4 is longer than train.epochs=0.2: the learning rate never"
    dry = sslbench(*given, "--set", "train.epochs=0.2", "--dry-run")
    assert dry.code == 0 and dry.out.startswith(told)
    ended = sslbench(*given, "--set", "train.epochs=0.2", "--out", "run")
    assert ended.code == 0, ended.err
    assert told in ended.out and ended.out.index(told) < ended.out.index("-> run")


def test_p21_a_large_seed_is_trained_and_evaluated(sslbench, places, labelled) -> None:
    seed = ("--set", f"train.seed={2**70}", "--set", "train.epochs=0.4", "--data", labelled)
    trained = sslbench("pretrain", "--config", places["config"], "--out", "run", *seed)
    assert trained.code == 0, trained.err
    ended = sslbench("evaluate", "--benchmark", "knn", "--model", "run", "--data", labelled)
    assert ended.code == 0, ended.err
    assert "random-init" in ended.out


def test_a_limit_ends_all_that_is_trained(sslbench, tmp_path, images, places) -> None:
    dvae = small.write_config(tmp_path / "dvae.py", "dvae", tmp_path, train={"epochs": 1})
    needs = {"tokenizer": f"train:{dvae}"}
    beit = small.write_config(tmp_path / "beit.py", "beit", images, needs=needs)
    ended = sslbench("pretrain", "--config", beit, "--limit", "2", "--out", "runs/mine")
    assert (ended.code, ended.err) == (0, "")
    for run in ("mine", "dvae-small-seed0"):
        assert [record["step"] for record in read_log(tmp_path / "runs" / run)][-1] == 2
    again = sslbench("pretrain", "--resume", "--out", "runs/mine", "--limit", "3")
    assert_one_sentence(again, "--limit is for new runs")
    both = sslbench("pretrain", "--config", beit, "--limit", "2", "--epochs", "1", "--out", "x")
    assert_one_sentence(both, "--limit 2 contradicts train.epochs=1.0; drop one of them")
    wide = ("--set", "train.batch_size=64")
    assert_one_sentence(
        sslbench("pretrain", "--config", places["config"], "--limit", "2", *wide),
        "train.batch_size=64 is larger than the dataset with 40 images",
    )
    assert not (tmp_path / "x").exists()


def test_profile_writes_nothing(sslbench, tmp_path, places) -> None:
    given = ["--config", places["config"], "--data", str(places["images"])]
    ended = sslbench("profile", *given, "--steps", "1")
    assert ended.code == 0, ended.err
    assert re.search(r"^images a second +\d", ended.out, re.MULTILINE)
    assert re.search(r"^  backward +\d", ended.out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []
    assert_one_sentence(sslbench("profile", *given, "--steps", "9999"), "lower --steps or raise")
    assert_one_sentence(sslbench("profile"), "pass --method NAME or --config NAME")
