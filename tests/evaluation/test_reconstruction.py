"""A tokenizer is judged on images it was not fed."""

from __future__ import annotations

import re

import pytest

from sslbench.errors import UserError
from sslbench.evaluation import reconstruction
from sslbench.evaluation.reconstruction import judge_tokenizer
from tests.training import small


def numbers(text: str) -> tuple[float, int, int]:
    found = re.search(r"error (\d\.\d{4}) and (\d+) of 16 codes in use on (\d+) ", text)
    return float(found[1]), int(found[2]), int(found[3])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, labelled):
    """A run on a dataset with a test split, which stands in for the validation split."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return small.train(small.recipe("dvae", labelled, train={"epochs": 4}), out)


def test_it_is_measured_on_held_out_images(trained, labelled) -> None:
    said = judge_tokenizer(trained)
    error, used, count = numbers(said)
    assert said.endswith(f"10 validation images of {labelled}")
    assert count == 10
    assert 0 < error < 0.25
    assert 1 <= used <= 16


def test_training_images_stand_in_and_that_is_said(tokenizer, images) -> None:
    assert f"on 40 train images of {images}" in judge_tokenizer(tokenizer)


def test_at_most_so_many_images_are_read(trained, monkeypatch) -> None:
    monkeypatch.setattr(reconstruction, "IMAGES", 3)
    assert numbers(judge_tokenizer(trained))[2] == 3


def test_broken_images_are_left_out(tmp_path) -> None:
    data = small.write_images(tmp_path / "data")
    run = small.train(small.recipe("dvae", data, train={"epochs": 1}), tmp_path / "run")
    (data / "003.png").write_bytes(b"")
    assert numbers(judge_tokenizer(run))[2] == 39


def test_a_run_of_a_method_is_no_tokenizer(dino_run) -> None:
    with pytest.raises(UserError, match="unknown tokenizer 'dino'"):
        judge_tokenizer(dino_run)
