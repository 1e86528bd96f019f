"""A fine-tuning in its folder: killed, resumed, shared by processes, evaluated by epochs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sslbench import plugins
from sslbench.benchmark import Splits
from sslbench.benchmarks.finetuning.job import train
from sslbench.benchmarks.finetuning.recipes import recipe_for, start_of
from sslbench.benchmarks.topk import count_hits, ranked
from sslbench.checkpoints.load import load_backbone
from sslbench.storage.sealed import load_checked_json
from sslbench.storage.weights import read_weights
from sslbench.system.launch import Team
from sslbench.training.build import build_method, start_method
from sslbench.training.log import LOG, read_log
from tests.benchmarks.finetuning.small import VALUES, folder_of_classes, planned

MODULE = ["sslbench.benchmarks.finetuning"]
HITS = ("judged top1_hits", "judged top5_hits", "judged images")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return folder_of_classes(tmp_path_factory.mktemp("data") / "four")


@pytest.fixture(scope="module")
def whole(data: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = planned(tmp_path_factory.mktemp("runs") / "whole", data)
    train(folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_weights(folder / "weights.safetensors")[0]


def epochs(folder: Path) -> list[dict[str, float]]:
    found = load_checked_json(folder / "metrics.json")["epochs"]
    return [{name: line[name] for name in ("step", *HITS)} for line in found]


def test_every_epoch_is_evaluated_and_the_run_is_one_of_ours(whole: Path) -> None:
    assert [line["step"] for line in epochs(whole)] == [2, 4, 6]
    assert all(line["judged images"] == 24 for line in epochs(whole))
    model = load_backbone(whole)
    assert (model.card.method, model.card.identified, model.reads) == ("supervised", "run", "cls")


def test_hits_are_those_of_a_plain_loop_over_the_split(whole: Path, data: Splits) -> None:
    """With the weights that were exported: the backbone, then its classifier."""
    model = load_backbone(whole)
    logits, labels = [], []
    for image, label in (data.test[i] for i in range(len(data.test))):
        tokens = model(model.transform(image)[None])
        logits.append(model.classifier(tokens.cls))
        labels.append(label)
    hits = count_hits(ranked(torch.cat(logits)), torch.tensor(labels))
    last = epochs(whole)[-1]
    assert (last["judged top1_hits"], last["judged top5_hits"]) == hits


@pytest.mark.slow
def test_killed_at_three_random_steps_it_ends_the_same_bit_for_bit(
    whole: Path, data: Splits, tmp_path: Path
) -> None:
    folder = planned(tmp_path / "killed", data)
    seed = random.SystemRandom().getrandbits(32)
    steps = sorted(random.Random(seed).sample(range(1, 6), 3))
    drawn = f"killed after steps {steps} of 6, drawn with the seed {seed}"
    for step in steps:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.held", str(step), *MODULE, str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        while child.poll() is None and last_step(folder) < step:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, drawn
    train(folder)
    expected, found = weights(whole), weights(folder)
    assert found.keys() == expected.keys()
    different = [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert not different, drawn
    assert epochs(folder) == epochs(whole), drawn


def last_step(folder: Path) -> float:
    records = read_log(folder) if (folder / LOG).exists() else []
    return records[-1]["step"] if records else 0


@pytest.mark.slow
def test_two_processes_train_and_count_as_one(whole: Path, data: Splits, tmp_path: Path) -> None:
    folder = planned(tmp_path / "two", data)
    command = ["-m", *MODULE, str(folder)]
    with Team(command, 2, {"OMP_NUM_THREADS": "1"}) as team:
        while team.running():
            time.sleep(0.1)
        assert team.failure() is None
    same_training(whole, folder)
    assert epochs(folder) == epochs(whole)


def test_micro_batches_train_as_one_batch(whole: Path, data: Splits, tmp_path: Path) -> None:
    folder = planned(tmp_path / "micro", data, accumulate=4)
    train(folder)
    same_training(whole, folder)


def same_training(whole: Path, folder: Path) -> None:
    expected = {line["step"]: line["loss"] for line in read_log(whole)}
    for line in read_log(folder):
        assert line["loss"] == pytest.approx(expected[line["step"]], rel=1e-4)
    found = weights(folder)
    for name, value in weights(whole).items():
        assert torch.allclose(found[name], value, atol=2e-4), name


def test_a_run_that_ended_is_left_alone(whole: Path) -> None:
    before = (whole / "metrics.json").read_text()
    assert json.loads(before)["epochs"]
    train(whole)
    assert (whole / "metrics.json").read_text() == before


def test_bf16_and_repeated_augmentation_train(data: Splits, tmp_path: Path) -> None:
    folder = planned(tmp_path / "bf16", data, precision="bf16", repeats=2, epochs=1.0)
    train(folder)
    assert len(epochs(folder)) == 1


@pytest.mark.parametrize(
    ("heads", "start", "note"),
    [
        ("keep", "backbone and classifier", "the backbone and the classifier of the source"),
        ("new", "backbone", "the backbone of the source; the classifier is new"),
    ],
)
def test_a_second_stage_says_whether_it_keeps_the_classifier(whole, data, heads, start, note):
    model = load_backbone(whole)
    recipe = recipe_for({**VALUES, "init": {"heads": heads}}, model, data, 0)
    assert start_of(recipe, model) == start
    method = build_method(recipe, plugins.CLASSIFIERS)
    assert start_method(method, recipe)[1][1] == note
    kept = method.network.classifier.linear.weight.equal(model.classifier.linear.weight)
    assert kept == (heads == "keep")
