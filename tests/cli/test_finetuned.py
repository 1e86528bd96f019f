"""What each command makes of the run directory of a fine-tuning: it works, or one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sslbench.storage import layout
from tests.cli.ended import assert_one_sentence, files, snapshot


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A fine-tuning of six steps, and its data beside it."""
    from sslbench.benchmarks.finetuning.job import train
    from tests.benchmarks.finetuning.small import folder_of_classes, planned

    root = tmp_path_factory.mktemp("finetuned")
    train(folder := planned(root / "run", folder_of_classes(root / "data")))
    return folder


@pytest.fixture
def run(trained, tmp_path_factory) -> Path:
    """A copy, to which a command may write."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("copy") / "run")


def test_commands_of_a_training_are_refused(sslbench, tmp_path, run) -> None:
    before = snapshot(run)
    resumed = sslbench("pretrain", "--resume", "--out", run)
    assert_one_sentence(resumed, "is a fine-tuning, .*repeat the evaluate command that began it")
    assert_one_sentence(sslbench("settings", run), "is a run, not a config; .*config.json")
    assert_one_sentence(sslbench("pretrain", "--config", run), "is a run, not a config")
    assert_one_sentence(sslbench("table", "--out", run), "records.jsonl does not exist")
    assert snapshot(run) == before and files(tmp_path) == []


def test_export_writes_the_weights_of_the_last_step(sslbench, run) -> None:
    from sslbench.storage.weights import read_weights

    ended = sslbench("export", run)
    assert ended.code == 0, ended.err
    (written,) = run.glob("weights-step*.safetensors")
    assert written.name in ended.out.replace("\n", "")
    exported, whole = read_weights(written)[0], read_weights(run / layout.WEIGHTS)[0]
    assert exported.keys() == whole.keys() and "classifier.linear.weight" in whole
    assert all((exported[name] == whole[name]).all() for name in whole)


@pytest.mark.parametrize("style", ["timm", "safetensors", "mmpretrain"])
def test_convert_writes_the_network_that_was_trained(sslbench, tmp_path, run, style) -> None:
    import torch

    from sslbench.checkpoints.load import load_backbone

    ended = sslbench("convert", run, "--to", style)
    assert ended.code == 0, ended.err
    (path,) = files(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = (load_backbone(source).backbone(images).cls for source in (run, path))
    assert torch.equal(ours, theirs)


def test_features_are_those_of_the_network(sslbench, tmp_path, run, trained) -> None:
    data = trained.parent / "data"
    ended = sslbench("features", "--model", run, "--data", data, "--out", "f.npz")
    assert ended.code == 0, ended.err
    assert "20 images, 128 features each" in ended.out and (tmp_path / "f.npz").exists()


def test_a_pretraining_starts_from_it(sslbench, run, trained) -> None:
    data = trained.parent / "data"
    asked = ("--method", "dino", "--data", data, "--init", run)
    ended = sslbench("pretrain", *asked, "--dry-run", "--set", "train.batch_size=4")
    assert ended.code == 0, ended.err
    assert "vit_nano" in ended.out and "dino" in ended.out
