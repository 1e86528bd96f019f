"""Command lines that cannot end well: one sentence, and nothing is written."""

from __future__ import annotations

import os
import resource
import signal

import pytest

from tests.cli.ended import assert_one_sentence, files, snapshot
from tests.training import small

PRETRAIN = {
    "missing data": ("--data {root}/nowhere", "path .*nowhere does not exist"),
    "misspelt data": ("--data shape", "Unknown dataset 'shape'.*did you mean 'shapes'"),
    "empty data": ("--data {root}/empty", "contains no images"),
    "one image": ("--data {one} --set train.batch_size=1", "1 image"),
    "large batch": ("--set train.batch_size=64", r"train\.batch_size=64 is larger.*at most 40"),
    "uneven batch": ("--set train.accumulate=3", "batch_size=8 cannot be shared"),
    "image size": ("--set backbone.image_size=30", "image_size 30 is not a multiple"),
    "crop size": ("--set method.views.global_size=30", "30 pixels is not a multiple"),
    "method": ("--method dinno", "unknown method 'dinno': did you mean 'dino'"),
    "other method": ("--method ibot", "is for method 'dino', not 'ibot'"),
    "config": ("--config shapes/dinno", "unknown config .*did you mean 'shapes/dino'"),
    "config file": ("--config nowhere.py", "config file 'nowhere.py' does not exist"),
    "config syntax": ("--config {root}/syntax.py", "cannot be read: .*never closed"),
    "config division": ("--config {root}/division.py", "cannot be read: ZeroDivisionError"),
    "config method": ("--config {root}/flat.py", "method='dino' is a value"),
    "unknown key": ("--set train.epoch=1", "unknown key 'train.epoch': did you mean 'epochs'"),
    "nested key": ("--set method.views.blurr=1", "unknown key 'method.views.blurr'.*'blur'"),
    "section": ("--set trian.epochs=1", "unknown section 'trian'.*did you mean 'train'"),
    "type": ("--set train.epochs=ten", "train.epochs='ten' is str, expected float"),
    "negative rate": ("--set optim.lr=-1", r"optim.lr=-1: must be greater than 0 \(peak"),
    "endless rate": ("--set optim.lr=1e999", "optim.lr=inf: must be a finite number"),
    "negative clip": ("--set optim.clip=-1", "optim.clip=-1: must be .* or equal to 0"),
    "negative seed": ("--set train.seed=-1", "train.seed=-1: must be .* or equal to 0"),
    "reversed scale": ("--set method.views.local_scale=(1,.5)", "the first must not be larger"),
    "rising rate": ("--set optim.min_lr=1", "min_lr=1 is above the peak learning rate of 0.001"),
    "where to look": ("--set optim.lr=0", "`sslbench settings .*dino.py` lists what can be set"),
    "zero": ("--set train.epochs=0", "train.epochs=0: must be greater than 0"),
    "choice": ("--set train.precision=bf61", "train.precision='bf61': did you mean 'bf16'"),
    "no equals": ("--set train.epochs", "'train.epochs' is not of the form key=value"),
    "value as section": ("--set train.epochs.x=1", "'epochs' is a value, not a section"),
    "section as value": ("--set method=3", "method=3 is a value"),
    "backbone": ("--set backbone.name=vit_nanno", "unknown backbone .*did you mean 'vit_nano'"),
    "needless need": ("--set needs.tokenizer=x", "unknown key 'needs.tokenizer'"),
    "no tokenizer": (
        "--method beit --config {beit}",
        "`sslbench tokenizer train` first and pass .* `--set needs.tokenizer=DIR`",
    ),
    "missing tokenizer": (
        "--method beit --config {beit} --set needs.tokenizer={root}/nowhere",
        "model source .*nowhere' does not exist",
    ),
    "no tokenizer's run": (
        "--method beit --config {beit} --set needs.tokenizer={run}",
        "unknown tokenizer 'dino'",
    ),
    "tokens": (
        "--method beit --config {beit} --set needs.tokenizer={tokenizer} "
        "--set method.views.token_size=16",
        "2x2 codes .* 4x4 patches",
    ),
    "data of many processes": ("--nproc 2 --data {root}/empty", "contains no images"),
    "batch of many processes": ("--nproc 3", "batch_size=8 cannot be shared by 3 processes"),
    "nothing to resume": ("--resume", "holds no run .config.json is missing"),
    "unknown option": ("--epoch 3", "No such option: --epoch"),
    "two seeds": ("--seed 3 --set train.seed=4", "--seed 3 contradicts --set train.seed=4; drop"),
    "two lengths": ("--epochs 3 --set train.epochs=4", "--epochs 3.0 contradicts --set train.ep"),
    "endless training": ("--epochs -1", "train.epochs=-1.0: must be greater"),
    "no process": ("--nproc 0", "Invalid value for '--nproc'"),
    "a file to train in": ("--out {config}", "--out .*dino.py is a file; name a folder"),
    "ill-typed option": ("--nproc two", "Invalid value for '--nproc'"),
}


@pytest.mark.parametrize(("typed", "pattern"), PRETRAIN.values(), ids=PRETRAIN)
def test_pretrain_refuses(sslbench, tmp_path, places, typed, pattern) -> None:
    given = typed.format(**places).split()
    usual = {"--method": "dino", "--config": places["config"], "--out": tmp_path / "run"}
    for option, value in usual.items():
        given += [] if option in given else [option, value]
    assert_one_sentence(sslbench("pretrain", *given), pattern)
    assert files(tmp_path) == []


EVALUATE = {
    "suite": ("--suite ful", "unknown suite 'ful': did you mean 'full'"),
    "benchmark": ("--benchmark knnn", "unknown benchmark 'knnn': did you mean 'knn'"),
    "model": ("--model {root}/nowhere", "model source .*nowhere' does not exist"),
    "no run": ("--model {root}/empty", "holds no weights.safetensors"),
    "damaged run": ("--model {root}/cut_run", "state.pt is truncated or damaged .* too"),
    "cut weights": ("--model {root}/cut_weights", "truncated or damaged"),
    "random weights": ("--model random-init:vit_small", "not of the form random-init:"),
    "unlabelled": ("--data {images} --split validation", "has no validation split"),
    "missing data": ("--data {root}/nowhere", "nowhere does not exist"),
    "split": ("--split tset", "Unknown split 'tset': did you mean 'test'"),
    "a file of records": ("--out {config}", "--out .*dino.py is a file; name a folder"),
    "suite before data": ("--suite ful --data {root}/nowhere", "unknown suite 'ful'"),
    "benchmark before models": ("--benchmark knnn --model {root}/nowhere", "benchmark 'knnn'"),
    "split before models": ("--split tset --model {root}/nowhere", "Unknown split 'tset'"),
}


@pytest.mark.parametrize(("typed", "pattern"), EVALUATE.values(), ids=EVALUATE)
def test_evaluate_refuses(sslbench, tmp_path, places, typed, pattern) -> None:
    given = typed.format(**places).split()
    usual = {"--model": places["run"], "--data": places["labelled"], "--out": tmp_path / "out"}
    for option, value in usual.items():
        given += [] if option in given else [option, value]
    assert_one_sentence(sslbench("evaluate", *given), pattern)
    assert files(tmp_path) == []


def test_evaluate_needs_labels(sslbench, tmp_path, places) -> None:
    for part in ("train", "test"):
        small.write_images(tmp_path / "data" / part, 4)
    given = ("--model", places["run"], "--data", "data", "--out", "out")
    assert_one_sentence(sslbench("evaluate", *given), "has no labels.*one sub-folder a class")
    assert not (tmp_path / "out").exists()


def test_evaluate_needs_a_model(sslbench) -> None:
    assert_one_sentence(sslbench("evaluate"), "no finished run below runs.*sslbench pretrain")


@pytest.mark.parametrize(
    ("typed", "pattern"),
    [
        ("table --out {root}/records", r"records\.jsonl, line 1 is truncated"),
        ("evaluate --model {run} --data {labelled} --out {root}/records", "line 1 is truncated"),
        ("table --out {root}/nowhere", "does not exist; run `sslbench evaluate"),
        ("table --out {root}/records --format mdd", "unknown format 'mdd': did you mean 'md'"),
        ("tokenizer train --kind dva", "unknown tokenizer 'dva': did you mean 'dvae'"),
        ("pretrain --method dino --resume", "--resume needs --out DIR"),
        ("pretrain", "pass --method NAME or --config NAME"),
        ("pretrian", "No such command 'pretrian'"),
        ("tokenizer", "Missing command"),
    ],
)
def test_commands_refuse(sslbench, tmp_path, places, typed, pattern) -> None:
    before = snapshot(places["root"])
    assert_one_sentence(sslbench(*typed.format(**places).split()), pattern)
    assert files(tmp_path) == []
    assert snapshot(places["root"]) == before


@pytest.mark.parametrize(
    ("run", "typed", "pattern"),
    [
        ("run", "--method dino", "already holds a run; add --resume"),
        ("run", "--method ibot --resume", "is a run of 'dino', not 'ibot'; pass --method dino"),
        ("run", "--method dino --resume --set train.epochs=9", "only run.* may change"),
        ("run", "--method dino --resume --data digits", "on other data than 'digits' holds"),
        ("cut", "--method dino --resume", r"state\.pt is truncated or damaged .* too; remove"),
        ("records", "--method dino --resume", r"config\.json is missing"),
    ],
)
def test_a_run_directory_is_left_as_it_is(sslbench, places, run, typed, pattern) -> None:
    out = places["run"] if run == "run" else places["root"] / run
    before = snapshot(out)
    given = typed.split() if "--resume" in typed else [*typed.split(), "--config", places["config"]]
    assert_one_sentence(sslbench("pretrain", "--out", out, *given), pattern)
    assert snapshot(out) == before


def test_a_full_disk_ends_a_run_before_it_begins(sslbench, tmp_path, places) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        ended = sslbench(
            "pretrain", "--method", "dino", "--config", places["config"], "--out", "run"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_one_sentence(ended, r"run/state\.pt cannot be written \(File too large\); free disk")
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_signal_ends_a_command_in_one_sentence(
    sslbench, tmp_path, monkeypatch, places, name
) -> None:
    number = signal.Signals[name]

    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr("sslbench.training.train.set_up", interrupted)
    ended = sslbench("pretrain", "--method", "dino", "--config", places["config"])
    assert ended.code == 128 + number
    assert ended.err.startswith(f"stopped by {name}: ") and ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
