"""The evaluation between epochs: what it counts and names, and that it changes no training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sslbench import plugins
from sslbench.benchmark import Splits
from sslbench.benchmarks.finetuning import judge
from sslbench.benchmarks.finetuning.job import train, write_plan
from sslbench.benchmarks.finetuning.judge import Judge
from sslbench.errors import RunError, UserError
from sslbench.evaluation.opening import open_splits
from sslbench.recipes.recipe import Recipe
from sslbench.storage.sealed import load_checked_json
from sslbench.storage.weights import read_weights
from sslbench.training.log import read_log
from sslbench.training.run import Run, set_up
from tests.benchmarks.finetuning.small import VALUES, folder_of_classes, planned, small_recipe
from tests.training.small import ALONE


@pytest.fixture
def data(tmp_path: Path) -> Splits:
    return folder_of_classes(tmp_path / "four")


def run_of(recipe: Recipe, folder: Path) -> Run:
    return set_up(recipe, folder, ALONE, plugins.CLASSIFIERS)


def break_images(data: Splits, every: int) -> Splits:
    for name in data.test.names[::every]:
        (data.test.root / name).write_bytes(b"no image")
    return open_splits(data.source, "test")


def test_broken_images_are_left_out_and_named_once(data, tmp_path, caplog) -> None:
    data = break_images(data, 24)
    run = run_of(small_recipe(data), tmp_path)
    watch = Judge(run, {"judged": data.test})
    found = [watch.values(step, 1, run.total_steps) for step in (2, 4)]
    assert [values["judged images"] for values in found] == [23, 23]
    messages = [text for text in caplog.messages if "broken image" in text]
    assert len(messages) == 1 and "1 broken image(s) left out (first: " in messages[0]
    assert data.test.names[0] in messages[0]


def test_too_many_broken_images_are_one_sentence(data, tmp_path) -> None:
    data = break_images(data, 2)
    run = run_of(small_recipe(data), tmp_path)
    with pytest.raises(UserError, match=r"12 of the 24 images of four .* cannot be decoded"):
        Judge(run, {"judged": data.test}).values(2, 1, run.total_steps)


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ({}, ("bicubic", None)),
        ({"test_interpolation": "bilinear", "test_crop_ratio": 0.5}, ("bilinear", 0.5)),
    ],
)
def test_images_are_resized_and_cropped_as_the_config_says(
    data, tmp_path, monkeypatch, views, expected
) -> None:
    monkeypatch.setitem(VALUES, "method", VALUES["method"] | {"views": views})
    transforms = []

    def kept(*arguments):
        transforms.append(arguments)
        return original(*arguments)

    original = judge.EvalTransform
    monkeypatch.setattr(judge, "EvalTransform", kept)
    run = run_of(small_recipe(data), tmp_path)
    Judge(run, {"judged": data.test}).values(2, 1, run.total_steps)
    method, ratio = expected
    source = run.recipe.data
    ratio = data.test.crop_ratio if ratio is None else ratio
    assert transforms == [(32, ratio, source.mean, source.std, method)]


def test_it_is_due_after_every_few_epochs_and_at_the_end(data, tmp_path) -> None:
    run = run_of(small_recipe(data), tmp_path)  # 3 epochs of 2 steps
    watch = Judge(run, {"judged": data.test}, every=2)
    assert [step for step in range(1, 7) if watch.due(step)] == [4, 6]
    assert watch.values(2, 1, 6) == {}


def test_training_is_the_same_bit_for_bit_however_often_it_is_evaluated(data, tmp_path) -> None:
    often, once = planned(tmp_path / "often", data), tmp_path / "once"
    once.mkdir()
    write_plan(small_recipe(data), data, 3, once)
    for folder in (often, once):
        train(folder)
    steps = [[e["step"] for e in load_checked_json(f / "metrics.json")["epochs"]]
             for f in (often, once)]  # fmt: skip
    assert steps == [[2, 4, 6], [6]]
    assert [e["loss"] for e in read_log(often)] == [e["loss"] for e in read_log(once)]
    first, second = (read_weights(f / "weights.safetensors")[0] for f in (often, once))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_has_every_epoch_once(data, tmp_path, monkeypatch) -> None:
    values = Judge.values

    def fails(self, step, log_every, total_steps):
        if step == 5:
            raise RunError("ended from outside.")
        return values(self, step, log_every, total_steps)

    folder = planned(tmp_path / "run", data)
    with monkeypatch.context() as patch:
        patch.setattr(Judge, "values", fails)
        with pytest.raises(RunError):
            train(folder)
    train(folder)
    assert [e["step"] for e in load_checked_json(folder / "metrics.json")["epochs"]] == [2, 4, 6]
    assert [line["step"] for line in read_log(folder)] == [1, 2, 3, 4, 5, 6]
