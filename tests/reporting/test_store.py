"""The store keeps every record whole: through crashes, full disks and concurrent writers."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslbench.errors import UserError
from sslbench.reporting.store import Identity, Store, latest

from .records import record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "deep" / "results.jsonl")


def test_round_trip_keeps_order_and_every_field(store: Store) -> None:
    assert store.load() == []
    first = record(interval=(1.5, 2.5), versions={"torch": "2"}, seconds=0.1)
    store.append([first, record("beta")])
    store.append([])
    store.append([record("gamma", value=1 / 3)])
    assert store.load() == [first, record("beta"), record("gamma", value=1 / 3)]
    assert store.path.read_bytes().count(b"\n") == 3


@given(text=st.text(), value=st.floats(allow_nan=False), seed=st.integers())
def test_any_text_and_number_survives(
    tmp_path_factory: pytest.TempPathFactory, text: str, value: float, seed: int
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "r.jsonl")
    written = record(text, value, setting=text, evaluation_seed=seed)
    store.append([written])
    assert store.load() == [written]


@pytest.mark.parametrize("lost", [1, 2, 300])
def test_line_cut_short_stops_both_ways(store: Store, lost: int) -> None:
    store.append([record("alpha"), record("beta")])
    whole = store.path.read_bytes()
    os.truncate(store.path, len(whole) - lost)
    for action in (store.load, lambda: store.append([record("gamma")])):
        with pytest.raises(UserError, match=r"results\.jsonl, line 2 is cut short.*delete that"):
            action()
    assert store.path.read_bytes() == whole[:-lost]


def test_deleting_the_named_line_is_a_remedy(store: Store) -> None:
    store.append([record("alpha"), record("beta")])
    lines = store.path.read_bytes().splitlines(keepends=True)
    store.path.write_bytes(lines[0])
    store.append([record("gamma")])
    assert store.load() == [record("alpha"), record("gamma")]


@pytest.mark.parametrize(
    "line",
    ["{}", "[1]", "", "nonsense", "\xff", '{"model": 3}'],
)
def test_line_that_is_no_record_is_named(store: Store, line: str) -> None:
    store.append([record()])
    with store.path.open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    with pytest.raises(UserError, match=r"line 2 is not a record .*delete that line"):
        store.load()


def test_value_that_is_no_number_is_named(store: Store) -> None:
    store.append([record()])
    fields = json.loads(store.path.read_text()) | {"value": "high"}
    store.path.write_text(json.dumps(fields) + "\n")
    with pytest.raises(UserError, match=r"line 1 .*'high' is no number"):
        store.load()


def test_disk_full_leaves_the_file_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append([record()])
    before, write = store.path.read_bytes(), os.write
    room = [40]

    def small_disk(file: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: room.pop()])

    monkeypatch.setattr(os, "write", small_disk)
    with pytest.raises(UserError, match=r"results\.jsonl: No space left on device"):
        store.append([record("beta"), record("gamma")])
    assert store.path.read_bytes() == before
    monkeypatch.undo()
    store.append([record("beta")])
    assert store.load() == [record(), record("beta")]


def test_real_file_size_limit(store: Store) -> None:
    code = """
import resource, sys
from sslbench.errors import UserError
from sslbench.reporting.store import Store
from tests.reporting.records import record
store = Store(sys.argv[1])
store.append([record()])
size = store.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
try:
    store.append([record("beta")])
except UserError:
    sys.exit(0 if store.path.stat().st_size == size and store.load() == [record()] else 3)
sys.exit(4)
"""
    assert subprocess.run([sys.executable, "-c", code, str(store.path)], cwd=ROOT).returncode == 0


def test_interrupted_write_leaves_the_file_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append([record()])
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.append([record("beta")])
    assert store.load() == [record()]


def test_concurrent_writers_do_not_tear_lines(store: Store) -> None:
    code = """
import sys
from sslbench.reporting.store import Store
from tests.reporting.records import record
for i in range(40):
    Store(sys.argv[1]).append([record(sys.argv[2], value=i), record(sys.argv[2], value=i + 0.5)])
"""
    command = [sys.executable, "-c", code, str(store.path)]
    writers = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("alpha", "beta")]
    assert [w.wait() for w in writers] == [0, 0]
    results = store.load()
    assert len(results) == 160
    for name in ("alpha", "beta"):
        values = [r.value for r in results if r.model.method == name]
        assert values == [i / 2 for i in range(80)]
    assert all(a.model == b.model for a, b in zip(results[::2], results[1::2], strict=True))


def test_unusable_path_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        Store(tmp_path).append([record()])
    with pytest.raises(UserError, match="Is a directory"):
        Store(tmp_path).load()


def test_has_and_keys(store: Store) -> None:
    assert not store.has(benchmark="near")
    r = record()
    store.append([r])
    assert store.keys() == {Identity.of(r)}
    assert store.has(sha256=r.model.sha256, protocol_hash=r.protocol_hash, seed=0)
    assert not store.has(sha256=r.model.sha256, seed=1)
    with pytest.raises(TypeError, match="methode"):
        store.has(methode="alpha")


def test_latest_keeps_the_newest_of_each_identity() -> None:
    old, new = record(value=1, date="2026-01-01"), record(value=2, date="2026-01-02")
    assert latest([old, new]) == latest([new, old]) == [new]
    assert latest([new, replace(new, value=3)])[0].value == 3  # same date: the later line
    assert latest([old, record("beta")]) == [old, record("beta")]


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "other"},
        {"benchmark": "other"},
        {"version": "2"},
        {"protocol": {"temperature": 1.0}},
        {"dataset_fingerprint": "f2"},
        {"split": "val"},
        {"setting": "k=10"},
        {"pool": "mean"},
        {"metric": "top-5"},
        {"evaluation_seed": 1},
    ],
)
def test_every_part_of_the_identity_counts(change: dict[str, object]) -> None:
    assert len(latest([record(), record(**change)])) == 2
