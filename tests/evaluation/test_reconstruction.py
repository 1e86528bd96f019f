"""A tokenizer is judged on images it was not fed."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from sslbench.checkpoints.modules import load_module
from sslbench.data.images import open_dataset
from sslbench.errors import UserError
from sslbench.evaluation import reconstruction
from sslbench.evaluation.reconstruction import evaluate_tokenizer
from sslbench.plugins import TOKENIZERS
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
    said = evaluate_tokenizer(trained)
    error, used, count = numbers(said)
    assert said.endswith(f"10 validation images of {labelled.name}")
    assert count == 10
    assert 0 < error < 0.25
    assert 1 <= used <= 16


def test_training_images_stand_in_and_that_is_said(tokenizer, images) -> None:
    assert f"on 40 train images of {images.name}" in evaluate_tokenizer(tokenizer)


def test_at_most_so_many_images_are_read(trained, monkeypatch) -> None:
    monkeypatch.setattr(reconstruction, "IMAGES", 3)
    assert numbers(evaluate_tokenizer(trained))[2] == 3


def test_broken_images_are_left_out(tmp_path) -> None:
    data = small.write_images(tmp_path / "data")
    run = small.train(small.recipe("dvae", data, train={"epochs": 1}), tmp_path / "run")
    (data / "003.png").write_bytes(b"")
    assert numbers(evaluate_tokenizer(run))[2] == 39


def test_a_run_of_a_method_is_no_tokenizer(dino_run) -> None:
    with pytest.raises(UserError, match="unknown tokenizer 'dino'"):
        evaluate_tokenizer(dino_run)


def test_originals_and_what_is_kept_of_them_are_drawn(sslbench, tmp_path, images, tokenizer):
    given = ("--tokenizer", tokenizer, "--data", images, "--size", 32, "--out", "sheet.png")
    ended = sslbench("tokenizer", "reconstruct", *given)
    assert (ended.code, ended.err) == (0, "")
    error = float(re.search(r"16 images of .*, mean squared error (\d\.\d{4})", ended.out)[1])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")) / 255
    assert sheet.shape == (4 * 32, 8 * 32, 3)
    bands = sheet.reshape(2, 2, 32, 8, 32, 3)  # rows of images, original and restored below
    originals, restored = bands[:, 0], bands[:, 1]
    assert ((originals - restored) ** 2).mean() == pytest.approx(error, abs=1e-3)
    module = load_module(tokenizer, TOKENIZERS)
    last = torch.from_numpy(originals[1, :, 7].transpose(2, 0, 1).copy()).float()[None]
    expected = module.decode(module.encode(last))[0].detach().numpy().transpose(1, 2, 0)
    assert np.abs(restored[1, :, 7] - expected).max() < 0.003  # half of one of 255 steps


def test_fewer_images_than_places_leave_white_ones(tmp_path, tokenizer):
    data = open_dataset(small.write_images(tmp_path / "data", 10))
    reconstruction.draw_reconstructions(
        load_module(tokenizer, TOKENIZERS), data, 32, tmp_path / "sheet.png"
    )
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (128, 256, 3)
    assert (sheet[64:, 64:] == 255).all() and not (sheet[64:, :64] == 255).all()
