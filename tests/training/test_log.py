"""The log survives kills and full disks, and shows what it is given."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from sslbench.errors import UserError
from sslbench.training.log import LOG, RunLog, keep_until, read_log


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def log(tmp_path, screen):
    with RunLog(tmp_path, 0, 10, Console(file=screen, width=40)) as opened:
        yield opened


def test_records_and_notes_are_lines_of_json(tmp_path, log) -> None:
    log.write({"step": 1, "loss": 2.5})
    log.say("something")
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 2.5}, {"note": "something"}]
    assert read_log(tmp_path) == [{"step": 1, "loss": 2.5}]


def test_the_last_step_is_shown_where_there_is_no_terminal(log, screen) -> None:
    log.write({"step": 9, "loss": 2.5, "teacher_entropy": 0.25, "lr": 1.0})
    assert screen.getvalue() == ""
    log.write({"step": 10, "loss": 2.5, "teacher_entropy": 0.25, "lr": 1.0})
    assert screen.getvalue() == "step 10/10 loss 2.5  teacher_entropy 0.25 left 0:00:00\n"


def test_brackets_in_a_name_are_shown_as_they_are(log, screen) -> None:
    log.skipped("data/[/b][red]/a.png: cannot be read")
    log.skipped("b.png: cut short")
    assert screen.getvalue() == (
        "skipped broken image 1: data/[/b][red]/a.png: cannot be read\n"
        "skipped broken image 2: b.png: cut short\n"
    )


def test_a_process_without_a_folder_writes_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunLog(None, 0, 10, Console(quiet=True)) as silent:
        silent.write({"step": 1, "loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence() -> None:
    log = RunLog(None, 0, 10, Console(quiet=True))
    log._file = open("/dev/full", "a")  # noqa: SIM115, PTH123
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"), log:
        log.write({"step": 1, "loss": 1.0})


def test_later_records_are_dropped_and_so_is_a_line_cut_short(tmp_path) -> None:
    path = tmp_path / LOG
    kept = '{"step": 1}\n{"note": "a"}\n{"step": 2}\n'
    path.write_text(kept + '{"step": 3}\n{"note": "b"}\n{"st')
    keep_until(path, 2)
    assert path.read_text() == kept
    keep_until(tmp_path / "none.jsonl", 2)
    assert not (tmp_path / "none.jsonl").exists()


def test_a_line_that_is_being_written_is_not_read(tmp_path) -> None:
    (tmp_path / LOG).write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_log(tmp_path) == [{"step": 1}]


@pytest.mark.parametrize(
    "damage", [b"\xff{}", b'{"step": 1, "lo', b"[1]", b'{"step": "x"}', b"\0\0"]
)
def test_a_damaged_line_costs_no_other(tmp_path, damage) -> None:
    """P23: one bad byte blocked a sound run, and a bad line cost all that followed."""
    path = tmp_path / LOG
    path.write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 2}\n{"step": 3}\n')
    assert read_log(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3}]
    keep_until(path, 2)
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_set_aside(tmp_path, caplog, make) -> None:
    make(tmp_path / LOG)
    with RunLog(tmp_path, 3, 5, Console(quiet=True)) as log:
        log.write({"step": 4, "loss": 1.0})
    assert [record["step"] for record in read_log(tmp_path)] == [4]
    assert (
        "log.jsonl is damaged (it is not a regular file); it is now log.jsonl.damaged."
        in caplog.text
    )
