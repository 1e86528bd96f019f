"""The store keeps every record whole: through crashes, full disks and concurrent writers."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslbench.errors import UserError
from sslbench.reporting.store import Identity, Store, latest
from sslbench.result import ModelCard, Result
from sslbench.storage.fields import MAX_NUMBER

from .records import MODEL, record

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


@given(text=st.text(), value=st.floats(-MAX_NUMBER, MAX_NUMBER), seed=st.integers())
def test_any_text_and_number_survives(
    tmp_path_factory: pytest.TempPathFactory, text: str, value: float, seed: int
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "r.jsonl")
    written = record(text, value, setting=text, evaluation_seed=seed)
    store.append([written])
    assert store.load() == [written]


@pytest.mark.parametrize("lost", [2, 300])
def test_line_cut_short_stops_both_ways(store: Store, lost: int) -> None:
    store.append([record("alpha"), record("beta")])
    whole = store.path.read_bytes()
    os.truncate(store.path, len(whole) - lost)
    for action in (store.load, lambda: store.append([record("gamma")])):
        with pytest.raises(UserError, match=r"results\.jsonl, line 2 is truncated.*delete that"):
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
    ["{}", "[1]", "3", "null", "nonsense", "\xff", '{"model": 3}', "[" * 100_000, '{"a":' * 5000],
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
    with pytest.raises(UserError, match=r"line 1 .*'value' is 'high', expected a finite number"):
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
    with pytest.raises(UserError, match="is not a regular file"):
        Store(tmp_path).append([record()])
    with pytest.raises(UserError, match="is not a regular file"):
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


def changed(**changes: Any) -> dict[str, Any]:
    """A record as JSON holds it; names of the model card change the card."""
    written = json.loads(record(interval=(1.5, 2.5)).to_json())
    card = {name: changes.pop(name) for name in MODEL & changes.keys()}
    return {**written, **changes, "model": {**written["model"], **card}}


def refused(store: Store, *lines: str) -> str:
    """The one sentence for a file with `lines` after one good line."""
    store.path.parent.mkdir(parents=True, exist_ok=True)
    store.path.write_text("\n".join([record().to_json(), *lines]) + "\n")
    with pytest.raises(UserError) as caught:
        store.load()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


FIELDS = {f.name: f.type for f in dataclasses.fields(Result) if f.name != "model"}
CARD = {f.name: f.type for f in dataclasses.fields(ModelCard)}
OPTIONAL = {"interval", "seed"}  # where null means none; the record's own seed is below


@pytest.mark.parametrize("name", sorted((FIELDS.keys() | CARD.keys()) - OPTIONAL))
def test_null_in_any_field_is_named(store: Store, name: str) -> None:
    said = refused(store, json.dumps(changed(**{name: None})))
    where = f"model.{name}" if name in CARD else name
    assert re.search(rf"line 2 is not a record \(the field '{where}' is null, expected an? ", said)


@pytest.mark.parametrize("wrong", [True, [], {}, "text", 3, [[1]], {"a": {"b": None}}])
@pytest.mark.parametrize("name", sorted(FIELDS.keys() | CARD.keys()))
def test_a_wrong_type_in_any_field_is_named(store: Store, name: str, wrong: object) -> None:
    kind = CARD.get(name) or FIELDS[name]
    free = kind == "dict[str, Any]" and isinstance(wrong, dict)
    texts = kind == "dict[str, str]" and wrong == {}
    plain = (kind == "str" and wrong == "text" and name not in ("date", "missing")) or (
        kind in ("int", "float", "int | None") and wrong == 3 and wrong is not True
    )
    line = json.dumps(changed(**{name: wrong}))
    if free or texts or plain:
        assert isinstance(Result.from_dict(json.loads(line)), Result)
    elif name == "missing" and wrong == "text":
        assert "'missing' says why there is no value, yet there is one" in refused(store, line)
    else:
        where = f"model.{name}" if name in CARD else name
        assert f"line 2 is not a record (the field '{where}" in refused(store, line)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"interval": 3}, "the field 'interval' is 3, expected 2 numbers or null"),
        ({"interval": [1, 2, 3]}, "the field 'interval' is a list of 3, expected 2 numbers"),
        ({"interval": [None, 1]}, "the field 'interval' is null, expected a finite number"),
        ({"n": -1}, "the field 'n' is -1, expected a whole number of 0 or more"),
        ({"n": "200"}, "the field 'n' is '200', expected a whole number of 0 or more"),
        ({"n": 2.5}, "the field 'n' is 2.5, expected a whole number of 0 or more"),
        ({"n": 10**400}, "the field 'n' is 1000"),
        ({"value": math.nan}, "the field 'value' is NaN, expected a finite number"),
        ({"value": math.inf}, "the field 'value' is Infinity, expected a finite number"),
        ({"value": 10**400}, "the field 'value' is 1000"),
        ({"value": True}, "the field 'value' is true, expected a finite number"),
        ({"epochs": -1}, "the field 'model.epochs' is -1, expected a finite number of 0 or more"),
        ({"date": "yesterday"}, "the field 'date' is 'yesterday', expected a date as 2026-01-31T"),
        ({"versions": {"torch": 2}}, "the field 'versions.torch' is 2, expected a text"),
        ({"versions": {"\x1b[31m": 2}}, r"the field 'versions.\x1b[31m' is 2, expected a text"),
        ({"protocol": "k=20"}, "the field 'protocol' is 'k=20', expected an object"),
        ({"dataset": "x" * 70_000}, "the field 'dataset' is a text of 70,000 characters"),
        ({"settings": {"a": ["x" * 70_000]}}, "the field 'model.settings' is a text of 70,000"),
        ({"method": "x\x1b\n" * 70_000}, "the field 'model.method' is a text of 210,000"),
    ],
)
def test_what_no_record_holds_is_one_sentence(
    store: Store, change: dict[str, object], said: str
) -> None:
    assert f"line 2 is not a record ({said}" in refused(store, json.dumps(changed(**change)))


def test_a_model_that_is_none_and_a_missing_field_are_named(store: Store) -> None:
    assert "the field 'model' is 3, expected an object" in refused(
        store, json.dumps({**changed(), "model": 3})
    )
    whole = changed()
    del whole["dataset"], whole["model"]["arch"]
    assert "(the field 'dataset' is missing)" in refused(store, json.dumps(whole))
    assert "(the field 'model.arch' is missing)" in refused(
        store, json.dumps({**whole, "dataset": "shapes"})
    )


def test_what_is_nested_too_deeply_is_one_sentence(store: Store) -> None:
    deep: object = 1
    for _ in range(200):
        deep = {"a": deep}
    line = json.dumps(changed(protocol=deep))
    assert "the field 'protocol' is nested more than 16 deep" in refused(store, line)


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (changed(confidence=0.9), "field 'confidence'"),
        (changed() | {"model": changed()["model"] | {"teacher": None}}, "field 'model.teacher'"),
        (changed(a_field="x", b_field="y"), "fields 'a_field', 'b_field'"),
        ({k: v for k, v in changed(new=1).items() if k != "split"}, "field 'new'"),
    ],
)
def test_a_record_of_a_newer_version_is_not_to_be_deleted(
    store: Store, line: dict[str, object], fields: str
) -> None:
    said = refused(store, json.dumps(line))
    assert said.endswith(
        f"line 2 was written by a newer version of sslbench (it has the {fields}); update sslbench."
    )


A, B, C = (record(name) for name in ("alpha", "beta", "gamma"))


@pytest.mark.parametrize(
    "text",
    [
        "{a}\n{b}\n{c}\n",
        "{a}\n\n{b}\n \t\n{c}\n\n",
        "\n\n{a}\n{b}\n{c}",
        "\ufeff{a}\r\n{b}\r\n\r\n\ufeff{c}\r\n",
        "{a}{b}\n{c}",
        "{a} {b}\ufeff{c}",
        "  {a}\n{b}\n{c}\n   ",
    ],
    ids=["plain", "blank lines", "no last newline", "BOM and CRLF", "glued", "all glued", "spaces"],
)
def test_merged_files_are_read_and_go_on(store: Store, text: str) -> None:
    text = text.replace("{a}", A.to_json()).replace("{b}", B.to_json()).replace("{c}", C.to_json())
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(text.encode())
    assert store.load() == [A, B, C]
    store.append([record("delta")])
    assert store.load() == [A, B, C, record("delta")]
    assert store.path.read_bytes().startswith(text.encode())


def test_a_last_line_that_is_whole_but_no_record_is_not_called_cut(store: Store) -> None:
    store.append([A])
    with store.path.open("a") as file:
        file.write(json.dumps(changed(n=-1)))
    with pytest.raises(UserError, match=r"line 2 is not a record \(the field 'n'"):
        store.load()


def test_a_file_in_another_encoding_is_one_sentence(store: Store) -> None:
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(f"\xff{A.to_json()}\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"line 1 is not a record \(it is not UTF-8 text\)"):
        store.load()


def test_a_full_disk_takes_back_the_newline_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.path.parent.mkdir(parents=True)
    store.path.write_text(A.to_json())
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(UserError, match="No space left"):
        store.append([B])
    assert store.path.read_text() == A.to_json()


def test_no_value_is_kept_with_its_reason_alone(store: Store) -> None:
    blank = record(value=math.nan, missing="too few images")
    store.append([blank])
    (found,) = store.load()
    assert math.isnan(found.value) and replace(found, value=0.0) == replace(blank, value=0.0)
    for value in (math.nan, math.inf):
        with pytest.raises(UserError, match="benchmark 'near' cannot be stored: the field 'value'"):
            store.append([record("beta", value=value)])
    assert len(store.load()) == 1


def test_records_of_the_first_version_are_read(store: Store) -> None:
    """Lines as version 0.1.0 wrote them, one of each benchmark."""
    lines = (Path(__file__).parent / "records_0.1.0.jsonl").read_text().splitlines()
    store.path.parent.mkdir(parents=True)
    store.path.write_text("\n".join(lines))
    found = store.load()
    assert len(found) == len(lines) >= 4
    for line, result in zip(lines, found, strict=True):
        written = json.loads(line)
        full = json.loads(json.dumps(dataclasses.asdict(result)))
        assert full | {"protocol_hash": result.protocol_hash} == {
            **{"missing": "", "features": {}},
            **written,
            "model": json.loads(json.dumps(dataclasses.asdict(ModelCard("", "", ""))))
            | written["model"],
        }
        assert Result.from_dict(json.loads(result.to_json())) == result


def test_a_line_is_short_and_stays_what_it_is() -> None:
    """Defaults and blanks are left out; a record of one's own gives the same bytes again."""
    plain = record(pool="", label="a b")
    line = plain.to_json()
    assert ", " not in line.replace("a b", "") and ": " not in line
    assert not {"interval", "seconds", "missing", "versions", "seed"} & json.loads(line).keys()
    for result in (plain, record(seed=0, evaluation_seed=3, interval=(1.0, 2.0), seconds=1.5)):
        again = Result.from_dict(json.loads(result.to_json()))
        assert again == result and again.to_json() == result.to_json()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_r7_records_in_another_encoding_are_not_to_be_deleted(tmp_path, encoding):
    path = tmp_path / "records.jsonl"
    mark = "\ufeff" if encoding.endswith("be") else ""
    path.write_bytes(f"{mark}{record().to_json()}\n".encode(encoding))
    before = path.read_bytes()
    for act in (Store(path).load, lambda: Store(path).append([record(value=1.0)])):
        with pytest.raises(UserError, match="save it as UTF-8, its records are intact"):
            act()
    assert path.read_bytes() == before


def test_a_pipe_in_the_place_of_records_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "records.jsonl")
    for act in (Store(tmp_path / "records.jsonl").load, lambda: Store(tmp_path).append([record()])):
        with pytest.raises(UserError, match="is not a regular file; choose another --out"):
            act()


@pytest.mark.parametrize("changes", [{"value": 1e200}, {"protocol": {"mean": -(10**400)}}])
def test_a_number_beyond_all_means_and_spreads_is_named(store: Store, changes: Any) -> None:
    with pytest.raises(UserError, match=r"'(value|protocol)' is .*, expected a number within"):
        store.append([record("alpha", **changes)])
    assert not store.load()
