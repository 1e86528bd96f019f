"""Children end with their parent, however that ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sslbench.system import processes
from sslbench.system.processes import Ending, report

CHILD = """
import signal, sys, time
from pathlib import Path
from sslbench.system.processes import end_with_parent
signal.signal(signal.SIGTERM, lambda *_: (Path(sys.argv[1]).write_text("asked"), sys.exit(0)))
end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import sys, time
from sslbench.system.processes import start
start(["-c", sys.argv[1], sys.argv[2]])
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_is_asked_to_end_when_its_parent_was_killed(tmp_path: Path, number) -> None:
    told = tmp_path / "told"
    command = [sys.executable, "-c", PARENT, CHILD, str(told)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.send_signal(number)
        assert parent.stdout.read() == ""  # until the child has closed its end, too
    assert told.read_text() == "asked"


def test_one_that_nobody_started_stays(monkeypatch) -> None:
    monkeypatch.delenv(processes.PARENT, raising=False)
    processes.end_with_parent()  # starts no watch, or this process would end


def test_end_asks_then_kills(monkeypatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    child = processes.start(["-c", f"{deaf}; time.sleep(60)"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()
        began = time.monotonic()
        processes.end([child])
    assert child.returncode == -signal.SIGKILL and time.monotonic() - began < 10


def test_a_report_reaches_the_parent_that_asked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(processes.REPORT, raising=False)
    assert not report("UserError", "no such thing.", 2)
    monkeypatch.setenv(processes.REPORT, str(tmp_path / "0.json"))
    assert report("UserError", "no such thing.", 2)
    assert processes.read_report(tmp_path / "0.json") == Ending("UserError", "no such thing.", 2)
    assert processes.read_report(tmp_path / "1.json") is None


REUSE = """
import resource
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    before = faults()
    b"x" * 2**26
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_freed_memory_is_kept_for_the_next_step(monkeypatch) -> None:
    for name in processes.ONE_CORE:
        monkeypatch.delenv(name, raising=False)

    def touched(environment: dict[str, str]) -> int:
        with processes.start(["-c", REUSE], environment, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            return int(child.stdout.read())

    assert touched({}) > 2**26 / 4096 / 2  # pages that the system gives anew, or larger ones
    assert touched(processes.for_one_core()) < 100


def test_what_the_user_set_is_left(monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processes.for_one_core()["OMP_NUM_THREADS"] == "3"
