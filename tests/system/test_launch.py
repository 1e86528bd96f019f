"""Processes that train together: what is told of how they ended."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from sslbench.errors import RunError, UserError
from sslbench.system import launch as launching
from sslbench.system.interrupts import Interrupted
from sslbench.system.launch import launch

RANK = "import os, sys, time, signal; rank = int(os.environ['RANK'])\n"
LOST = "from sslbench.system.processes import report; report('LostPeers', 'lost', 1); sys.exit(1)\n"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(launching, "WAIT_SECONDS", 1.0)


def run(second: str, first: str = "") -> None:
    launch(["-c", f"{RANK}if rank:\n {second}\nelse:\n {first or 'pass'}\n"], 2)


def test_they_meet_at_a_store(tmp_path) -> None:
    meet = (
        "import torch, torch.distributed as dist; dist.init_process_group('gloo'); "
        "x = torch.ones(1) * rank; dist.all_reduce(x); open(sys.argv[1] + str(rank), 'w')"
        ".write(str(x.item())); dist.destroy_process_group()"
    )
    launch(["-c", RANK + meet, str(tmp_path / "sum")], 2)
    assert [(tmp_path / f"sum{rank}").read_text() for rank in (0, 1)] == ["1.0", "1.0"]


def test_the_words_of_the_one_that_failed_come_before_those_of_the_one_that_lost_it() -> None:
    told = (
        f"from sslbench.system.processes import report; report('{UserError.__name__}', 'no.', 2); "
    )
    with pytest.raises(UserError, match=r"^no\.$"):
        run(told + "sys.exit(2)", LOST)


def test_a_killed_process_is_named_and_the_others_end() -> None:
    with pytest.raises(RunError, match=r"process 2 of 2 was killed by SIGKILL .*--resume"):
        run("os.kill(os.getpid(), signal.SIGKILL)", "time.sleep(60)")


def test_a_crash_points_at_its_last_lines() -> None:
    with pytest.raises(RunError, match="process 2 of 2 ended with exit code 3; its last lines"):
        run("sys.exit(3)", LOST)


def test_a_signal_is_passed_on_once() -> None:
    """A Ctrl-C that reaches both must not become two."""
    wait = (
        "seen = []; signal.signal(signal.SIGINT, lambda *_: seen.append(1)); time.sleep(1.5); "
        "from sslbench.system.processes import report; "
        "report('Interrupted', f'{len(seen)} seen', 130); sys.exit(130)"
    )
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(Interrupted, match=r"^1 seen$") as end:
        run(wait, wait)
    assert end.value.code == 130
