"""Checkpoints are whole or absent: full disks, cut files, half-done renames."""

from __future__ import annotations

import json
import os
import random
import resource
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sslbench.errors import UserError
from sslbench.storage import checkpoint, files, layout, sealed, weights
from sslbench.storage.sealed import DamagedFile, load_checked, load_checked_json
from sslbench.training.log import LOG
from tests.training import small

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
    assert names(tmp_path) == [layout.PREVIOUS, layout.STATE]
    assert checkpoint.load_state(tmp_path) == {"step": 3}
    (tmp_path / layout.STATE).unlink()  # as a kill between the two renames leaves it
    assert layout.has_state(tmp_path)
    assert checkpoint.load_state(tmp_path) == {"step": 2}


@pytest.mark.parametrize("length", [0, 1, 100, 500])
def test_a_state_cut_short_is_one_sentence(tmp_path, length) -> None:
    checkpoint.save_state(tmp_path, {"step": 1, "method": TENSORS})
    path = tmp_path / layout.STATE
    path.write_bytes(path.read_bytes()[:length])
    absent = r"state\.pt is truncated or damaged \(.*\) and state\.previous\.pt does not exist"
    with pytest.raises(UserError, match=absent):
        checkpoint.load_state(tmp_path)
    (tmp_path / layout.PREVIOUS).touch()
    with pytest.raises(UserError, match=r"state\.previous\.pt is damaged too; remove .* again\.$"):
        checkpoint.load_state(tmp_path)


BIG = {"a": torch.arange(20_000.0), "b": torch.ones(3, dtype=torch.int64)}


def flip(at: float) -> Callable[[bytearray], None]:
    """Flips one bit at a share of the file's length."""

    def change(data: bytearray) -> None:
        data[int(at * (len(data) - 1))] ^= 4

    return change


def zero_a_page(data: bytearray) -> None:
    data[8192:12288] = bytes(4096)


def zero_the_end(data: bytearray) -> None:
    data[-50:] = bytes(50)


def forget_the_checksum(data: bytearray) -> None:
    data[-80:-64] = bytes(16)


DAMAGE = [flip(at) for at in (0, 0.001, 0.05, 0.3, 0.5, 0.777, 0.99, 0.995, 0.9992, 1)]
DAMAGE += [zero_a_page, zero_the_end, forget_the_checksum]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_state_with_any_other_byte_gives_way_to_the_one_before(tmp_path, caplog, damage) -> None:
    for step in (3, 6):
        checkpoint.save_state(tmp_path, {"step": step, "method": BIG})
    data = bytearray((tmp_path / layout.STATE).read_bytes())
    damage(data)
    (tmp_path / layout.STATE).write_bytes(data)
    state = checkpoint.load_state(tmp_path)
    assert state["step"] == 3 and torch.equal(state["method"]["a"], BIG["a"])
    assert "state.pt is truncated or damaged" in caplog.text
    assert f"Resuming from {tmp_path / layout.PREVIOUS}, step 3." in caplog.text
    # the damaged file is set aside and never becomes the one before
    assert names(tmp_path) == [layout.DAMAGED, layout.PREVIOUS]
    checkpoint.save_state(tmp_path, {"step": 4})
    assert torch.load(tmp_path / layout.PREVIOUS, weights_only=True)["step"] == 3


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_anywhere_is_noticed(tmp_path, seed) -> None:
    """Padding and the archive's own tables included, which no reader of archives looks at."""
    sealed.save_checked(tmp_path / "x.pt", BIG)
    data = bytearray((tmp_path / "x.pt").read_bytes())
    place = random.Random(seed).randrange(8 * len(data))
    data[place // 8] ^= 1 << place % 8
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(DamagedFile, match=r"x\.pt is truncated or damaged \(.+\)\.$"):
        load_checked(tmp_path / "x.pt")


def test_a_file_with_a_checksum_is_an_ordinary_one_to_torch(tmp_path) -> None:
    sealed.save_checked(tmp_path / "x.pt", BIG)
    for mmap in (False, True):
        found = torch.load(tmp_path / "x.pt", weights_only=True, mmap=mmap)
        assert torch.equal(found["a"], BIG["a"])
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"sslbench sha256 ")


def test_a_state_of_the_version_before_is_read_with_a_note(tmp_path, caplog) -> None:
    path = tmp_path / layout.STATE
    torch.save({"step": 7, "method": BIG}, path)
    assert checkpoint.load_state(tmp_path, {"train.seed": 0})["step"] == 7
    assert "state.pt was written by an older version and has no checksum" in caplog.text
    data = bytearray(path.read_bytes())
    flip(0.5)(data)  # its archive has at least sums of the tensors
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"\(state/data/0 does not match its checksum\)"):
        checkpoint.load_state(tmp_path)


def test_a_state_of_another_run_is_refused(tmp_path) -> None:
    mine, other = {"train.seed": 0, "optim.lr": 0.1}, {"train.seed": 1, "optim.lr": 0.1}
    checkpoint.save_state(tmp_path, {"step": 5}, mine)
    assert checkpoint.load_state(tmp_path, mine) == {"step": 5}
    assert checkpoint.load_state(tmp_path) == {"step": 5}
    # a setting that is new in this version does not make another run of it
    assert checkpoint.load_state(tmp_path, {**mine, "optim.new": 3}) == {"step": 5}
    with pytest.raises(
        UserError, match=r"another run \(train\.seed 0, not 1\); restore this run's"
    ):
        checkpoint.load_state(tmp_path, other)
    with pytest.raises(UserError, match=r"another run \(of another kind\); restore this run's"):
        checkpoint.load_state(tmp_path, {"job": "knn-1"})
    assert names(tmp_path) == [layout.STATE]


@pytest.mark.parametrize("value", [[1, 2], torch.ones(2), "text", None])
def test_a_state_that_is_none_is_one_sentence(tmp_path, value) -> None:
    sealed.save_checked(tmp_path / layout.STATE, value)
    with pytest.raises(UserError, match=r"state\.pt is damaged \(it holds no state\) and"):
        checkpoint.load_state(tmp_path)


def test_a_state_that_would_run_code_is_refused(tmp_path) -> None:
    torch.save({"step": os.system}, tmp_path / layout.STATE)
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
    assert names(tmp_path) == [layout.PREVIOUS, layout.STATE]
    assert checkpoint.load_state(tmp_path) == {"step": 2}
    refused = pytest.raises(UserError, match=r"weights\.safetensors cannot be .*File too large")
    with refused, small_disk(50_000):
        weights.save_weights(tmp_path / layout.WEIGHTS, {"a": torch.zeros(100_000)}, {})
    assert names(tmp_path) == [layout.PREVIOUS, layout.STATE]


def test_a_disk_that_is_full_when_it_syncs(tmp_path, monkeypatch) -> None:
    checkpoint.save_state(tmp_path, {"step": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"\(No space left on device\); free disk space"):
        checkpoint.save_state(tmp_path, {"step": 2})
    assert names(tmp_path) == [layout.STATE]
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
    with pytest.raises(UserError, match=r"state\.pt cannot be written"):
        small.train(small.recipe("dino", images), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_leftovers_of_a_kill_are_removed(tmp_path) -> None:
    for name in (".state.pt.123.tmp", "state.pt", "notes.tmp"):
        (tmp_path / name).touch()
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["notes.tmp", "state.pt"]


def test_weights_come_back_with_their_card(tmp_path) -> None:
    path = tmp_path / layout.WEIGHTS
    sha = weights.save_weights(path, TENSORS, {"steps": 5})
    tensors, card = weights.read_weights(path)
    assert card == {"steps": 5, "sha256": sha}
    assert all(torch.equal(tensors[k], v) for k, v in TENSORS.items())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="truncated or damaged"):
        weights.read_weights(path)


def test_the_hash_is_of_names_shapes_types_and_values() -> None:
    a = TENSORS["a"]
    variants = [{"a": a}, {"b": a}, {"a": a.T}, {"a": a.reshape(6)}, {"a": a.double()}]
    variants += [{"a": a + 1}, {"a": a, "b": a}]
    assert len({weights.weights_sha256(v) for v in variants}) == len(variants)
    assert weights.weights_sha256({"a": a.T}) == weights.weights_sha256({"a": a.T.contiguous()})


def test_a_card_that_is_nested_without_end_is_one_sentence(tmp_path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "x", {"sslbench": '{"a":' * 100_000})
    with pytest.raises(UserError, match=r"the card in .*x is damaged"):
        weights.read_metadata(tmp_path / "x")


def test_a_card_that_was_edited_is_not_believed(tmp_path):
    """P24: epochs, seed or recipe of a run, changed by hand, were recorded as the run's."""
    path = tmp_path / "weights.safetensors"
    tensors = {"a": torch.ones(3)}
    card = {"epochs": 2.0, "recipe": {"train": {"seed": 0}, "data": {"mean": (0.5, 0.5)}}}
    sha = weights.save_weights(path, tensors, card)
    read = {**json.loads(json.dumps(card)), "sha256": sha}
    assert weights.read_weights(path)[1] == weights.read_metadata(path) == read
    with safe_open(path, "pt") as file:
        written = json.loads(file.metadata()["sslbench"])
    for change in ({"epochs": 800.0}, {"recipe": {}}, {"new": 1}):
        save_file(tensors, path, {"sslbench": json.dumps({**written, **change})})
        for read_again in (weights.read_weights, weights.read_metadata):
            with pytest.raises(UserError, match="was changed after it was written"):
                read_again(path)
    save_file(tensors, path, {"sslbench": json.dumps(read)})  # as older versions wrote it
    assert weights.read_metadata(path) == read


def test_a_state_that_is_a_bomb_is_damaged(tmp_path):
    """S1: sealed by whoever made it."""
    sealed.save_checked(tmp_path / "x.pt", {"a": torch.ones(1).expand(4_000_000_000)})
    with pytest.raises(DamagedFile, match=r"damaged .* cannot be used: it holds a tensor of shape"):
        load_checked(tmp_path / "x.pt")


@pytest.mark.parametrize("length", [2**24 + 1, 2**40, 2**64 - 1])
def test_a_header_of_safetensors_without_end(tmp_path, length):
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b'{"__metadata__":{' + b" " * 1000)
    for read in (weights.read_weights, weights.read_metadata):
        with pytest.raises(UserError, match=r"damaged \(its header is too long\); create them"):
            read(path)


def test_a_pipe_in_place_of_weights_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"damaged \(it is not a regular file\)"):
        weights.read_metadata(tmp_path / "x.safetensors")


def test_tensors_that_the_file_does_not_hold(tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[4000000000],"data_offsets":[0,4]}}'
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(UserError, match="truncated or damaged"):
        weights.read_weights(path)


def test_a_pipe_in_place_of_a_state_gives_way_to_the_one_before(tmp_path):
    for step in (3, 6):
        checkpoint.save_state(tmp_path, {"step": step})
    (tmp_path / layout.STATE).unlink()
    os.mkfifo(tmp_path / layout.STATE)
    assert checkpoint.load_state(tmp_path)["step"] == 3
    os.mkfifo(tmp_path / "metrics.json")
    with pytest.raises(DamagedFile, match="not a regular file"):
        load_checked_json(tmp_path / "metrics.json")
