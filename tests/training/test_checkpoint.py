"""Checkpoints are whole or absent: full disks, cut files, half-done renames."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sslbench.errors import UserError
from sslbench.training import checkpoint
from sslbench.training.log import LOG

from . import small

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.int64)}


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes within.

    Never for longer: pytest's own output may go to a file that is larger already.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_state_before_stays(tmp_path) -> None:
    for step in (1, 2, 3):
        checkpoint.save_state(tmp_path, {"step": step})
    assert names(tmp_path) == [checkpoint.PREVIOUS, checkpoint.STATE]
    assert checkpoint.load_state(tmp_path) == {"step": 3}
    (tmp_path / checkpoint.STATE).unlink()  # as a kill between the two renames leaves it
    assert checkpoint.has_state(tmp_path)
    assert checkpoint.load_state(tmp_path) == {"step": 2}


@pytest.mark.parametrize("length", [0, 1, 100, 500])
def test_a_state_cut_short_is_one_sentence(tmp_path, length) -> None:
    checkpoint.save_state(tmp_path, {"step": 1, "method": TENSORS})
    path = tmp_path / checkpoint.STATE
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"state\.pt is truncated or damaged; start anew\.$"):
        checkpoint.load_state(tmp_path)
    (tmp_path / checkpoint.PREVIOUS).touch()
    with pytest.raises(UserError, match=r"replace it by state\.previous\.pt\.$"):
        checkpoint.load_state(tmp_path)


def test_a_state_that_would_run_code_is_refused(tmp_path) -> None:
    torch.save({"step": os.system}, tmp_path / checkpoint.STATE)
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load_state(tmp_path)


def test_no_state_is_one_sentence(tmp_path) -> None:
    with pytest.raises(UserError, match=r"holds no state\.pt to resume from; leave out --resume"):
        checkpoint.load_state(tmp_path)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path) -> None:
    checkpoint.save_state(tmp_path, {"step": 1})
    checkpoint.save_state(tmp_path, {"step": 2})
    refused = pytest.raises(UserError, match=r"state\.pt cannot be written \(File too large\)")
    with refused, small_disk(50_000):
        checkpoint.save_state(tmp_path, {"step": 3, "big": torch.zeros(100_000)})
    assert names(tmp_path) == [checkpoint.PREVIOUS, checkpoint.STATE]
    assert checkpoint.load_state(tmp_path) == {"step": 2}
    refused = pytest.raises(UserError, match=r"weights\.safetensors cannot be .*File too large")
    with refused, small_disk(50_000):
        checkpoint.save_weights(tmp_path / checkpoint.WEIGHTS, {"a": torch.zeros(100_000)}, {})
    assert names(tmp_path) == [checkpoint.PREVIOUS, checkpoint.STATE]


def test_a_disk_that_is_full_when_it_syncs(tmp_path, monkeypatch) -> None:
    checkpoint.save_state(tmp_path, {"step": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"\(No space left on device\); free disk space"):
        checkpoint.save_state(tmp_path, {"step": 2})
    assert names(tmp_path) == [checkpoint.STATE]
    assert checkpoint.load_state(tmp_path) == {"step": 1}


def test_a_run_on_a_full_disk_fails_before_it_trains(tmp_path, images) -> None:
    refused = pytest.raises(UserError, match=r"state\.pt cannot be written \(File too large\)")
    with refused, small_disk(100_000):
        small.train(small.recipe("dino", images), tmp_path / "run")
    assert names(tmp_path / "run") == []


def test_a_disk_that_fills_during_the_run(tmp_path, images, monkeypatch) -> None:
    save, steps = torch.save, []

    def filling(state, file):
        steps.append(state["step"])
        if state["step"] == 6:
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", filling)
    with pytest.raises(UserError, match="with --resume if the run had begun"):
        small.train(small.recipe("dino", images), tmp_path / "run")
    assert steps == [0, 3, 6]
    assert not list((tmp_path / "run").glob("*.tmp")) + list((tmp_path / "run").glob(".*"))
    assert checkpoint.load_state(tmp_path / "run")["step"] == 3
    monkeypatch.undo()
    small.train(small.recipe("dino", images), tmp_path / "run", resume=True)
    whole = small.train(small.recipe("dino", images), tmp_path / "whole")
    assert (tmp_path / "run" / LOG).exists()
    assert small.losses(tmp_path / "run") == small.losses(whole)


def test_an_out_that_is_a_file(tmp_path, images) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match=r"config\.json cannot be written"):
        small.train(small.recipe("dino", images), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_leftovers_of_a_kill_are_removed(tmp_path) -> None:
    for name in (".state.pt.123.tmp", "state.pt", "notes.tmp"):
        (tmp_path / name).touch()
    checkpoint.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["notes.tmp", "state.pt"]


def test_weights_come_back_with_their_card(tmp_path) -> None:
    path = tmp_path / checkpoint.WEIGHTS
    sha = checkpoint.save_weights(path, TENSORS, {"steps": 5})
    tensors, card = checkpoint.read_weights(path)
    assert card == {"steps": 5, "sha256": sha}
    assert all(torch.equal(tensors[k], v) for k, v in TENSORS.items())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="truncated or damaged"):
        checkpoint.read_weights(path)


def test_the_hash_is_of_names_shapes_types_and_values() -> None:
    a = TENSORS["a"]
    variants = [{"a": a}, {"b": a}, {"a": a.T}, {"a": a.reshape(6)}, {"a": a.double()}]
    variants += [{"a": a + 1}, {"a": a, "b": a}]
    assert len({checkpoint.weights_sha256(v) for v in variants}) == len(variants)
    assert checkpoint.weights_sha256({"a": a.T}) == checkpoint.weights_sha256(
        {"a": a.T.contiguous()}
    )
