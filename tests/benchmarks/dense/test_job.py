"""The processes of one detector or segmenter: followed, ended, resumed, never two in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from sslbench.benchmarks import apart
from sslbench.benchmarks.dense.job import train_and_test
from sslbench.benchmarks.dense.runner import held, run
from sslbench.errors import RunError, UserError
from sslbench.storage.files import save_json
from sslbench.storage.sealed import sealed_json
from sslbench.system import processes
from sslbench.system.launch import Team
from tests.benchmarks.dense.small import LINEAR, metrics_of, small_config, steps_of, write_config

SAVED = '{"kind": "Interrupted", "message": "saved", "code": 143}'
CONFIG = Config({"train_cfg": {"max_iters": 4}})


@pytest.fixture
def context(tmp_path: Path) -> SimpleNamespace:
    seen: list[tuple[int, int]] = []
    return SimpleNamespace(
        work_dir=tmp_path / "job",
        cancelled=Event(),
        seen=seen,
        progress=lambda *done: seen.append(done),
    )


@pytest.fixture
def child(tmp_path: Path, monkeypatch) -> Callable[[str], None]:
    """child("exit 1"): what the started processes do, as a shell script; $dir is their folder."""
    script = tmp_path / "child"
    monkeypatch.setattr(processes.sys, "executable", str(script))
    monkeypatch.setattr(apart, "POLL_SECONDS", 0.01)

    def set_up(does: str) -> None:
        script.write_text(f'#!/bin/sh\nfor dir; do :; done\necho "$@" > "$dir/arguments"\n{does}\n')
        script.chmod(0o700)

    return set_up


def test_metrics_of_a_run_and_its_steps(child, context):
    log = '{"step": 3, "loss": 1.0}'
    child(
        f"""echo '{log}' >> $dir/log.jsonl; sleep 0.3; echo '{{"mIoU": 5}}' > $dir/metrics.json"""
    )
    assert train_and_test(CONFIG, context, processes=1) == {"mIoU": 5}
    assert set(context.seen) == {(3, 4)}
    assert "max_iters=4" in (context.work_dir / "config.py").read_text()
    child("exit 1")
    assert train_and_test(CONFIG, context) == {"mIoU": 5}, "a finished run is not repeated"


@pytest.mark.parametrize("damage", [("5.0", "6.0"), ("}", ""), ('"mIoU"', '"aAcc"')])
def test_damaged_metrics_are_no_result(child, context, caplog, damage):
    metrics = context.work_dir / "metrics.json"
    save_json(metrics, sealed_json({"mIoU": 5.0}))
    child("exit 1")
    assert train_and_test(CONFIG, context) == {"mIoU": 5.0}
    metrics.write_text(metrics.read_text().replace(*damage))
    child("echo '{\"mIoU\": 7}' > $dir/metrics.json")
    assert train_and_test(CONFIG, context) == {"mIoU": 7}
    assert "metrics.json is " in caplog.text and "damaged (" in caplog.text


@pytest.mark.parametrize("count", [1, 2])
def test_each_process_is_told_its_place(child, context, count: int):
    child("echo $LOCAL_RANK of $WORLD_SIZE >> $dir/places; echo '{}' > $dir/metrics.json")
    train_and_test(CONFIG, context, count)
    places = (context.work_dir / "places").read_text().split("\n")
    assert sorted(places)[1:] == [f"{rank} of {count}" for rank in range(count)]
    arguments = (context.work_dir / "arguments").read_text()
    assert arguments == f"-m sslbench.benchmarks.dense run {context.work_dir}\n"


@pytest.mark.parametrize(
    ("does", "error", "said"),
    [
        ("echo noise; echo 'ValueError: boom' >&2; exit 1", RuntimeError, "ValueError: boom (see"),
        ("echo 'error: name this.' >&2; echo; exit 2", UserError, "name this."),
        ("echo 'error: not finite.'; echo =====; exit 1", RuntimeError, "not finite. (see"),
        ("echo 'usage: python'; exit 2", RuntimeError, "usage: python (see"),
        ("exit 3", RuntimeError, "it ended with code 3 without a message (see"),
        ("kill -9 $$", RunError, "process 1 of 1 was killed by SIGKILL (by hand, or because "),
        (
            f"echo '{SAVED}' > $SSLBENCH_REPORT; exit 143",
            RunError,
            "stopped by SIGTERM, saved; rep",
        ),
    ],
)
def test_a_failure_says_the_last_words(child, context, does: str, error, said: str):
    child("echo 'error: of an attempt before' >&2; exit 1")
    with pytest.raises(RuntimeError, match="of an attempt before"):
        train_and_test(CONFIG, context)
    child(does)
    with pytest.raises(error) as raised:
        train_and_test(CONFIG, context)
    assert type(raised.value) is error and str(raised.value).startswith(said)


def test_a_cancelled_suite_ends_the_process(child, context):
    child('echo $$ > "$dir/pid"; echo \'{"step": 1}\' > "$dir/log.jsonl"; exec sleep 60')
    context.progress = lambda *_: context.cancelled.set()
    with pytest.raises(RunError, match="was interrupted; repeat the command to resume it"):
        train_and_test(CONFIG, context)
    with pytest.raises(ProcessLookupError):
        os.kill(int((context.work_dir / "pid").read_text()), 0)


def test_a_folder_belongs_to_one_run(tmp_path: Path):
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); "
    code += "print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "run.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another run works in"), held(tmp_path):
            pass
        other.kill()
    with held(tmp_path):
        pass


@pytest.mark.slow  # two processes import mmseg
def test_a_killed_process_is_gone_on_with(tmp_path: Path, context, monkeypatch):
    config, started, refused = small_config(tmp_path, *LINEAR, steps=8, save=True), [], []
    start, folder = apart._start, context.work_dir

    def kill(done: int, total: int) -> None:
        assert total == 8
        if len(started) == 1 and (folder / "state.pt").exists():
            with pytest.raises(UserError, match="another run works in") as error:
                run(folder)
            refused.append(error)
            started[0].members[0].kill()

    def begin(command: list[str], *rest) -> Team:
        """The first one trains until step 4 of 8, and waits there to be killed."""
        held = ["-m", "tests.held", "4", *command[1:]] if not started else command
        started.append(start(held, *rest))
        return started[-1]

    monkeypatch.setattr(apart, "_start", begin)
    monkeypatch.setattr(apart, "POLL_SECONDS", 0.01)
    context.progress = kill
    with pytest.raises(RunError, match="was killed by SIGKILL"):
        train_and_test(config, context, processes=1)
    assert refused and started[0].members[0].returncode == -signal.SIGKILL
    assert not (folder / "detector.pth").exists(), "killed while it trained"
    found = train_and_test(config, context, processes=1)
    run(write_config(tmp_path / "alone", config))
    assert found == metrics_of(tmp_path / "alone")
    assert steps_of(folder) == steps_of(tmp_path / "alone")
    weights = [
        torch.load(path / "detector.pth", weights_only=True)["state_dict"]
        for path in (folder, tmp_path / "alone")
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
