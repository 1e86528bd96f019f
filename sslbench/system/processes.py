"""Child processes that end when their parent ends, in whatever way it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

PARENT = "SSLBENCH_PARENT"  # environment variable: the parent's process id
REPORT = "SSLBENCH_REPORT"  # environment variable: the file where a child reports how it ended
POLL_SECONDS = 0.5
GRACE_SECONDS = 30.0  # to save a checkpoint; then the process is ended by force
# One thread; and glibc keeps freed memory for the next step, in large pages where the system has
# them: the first touch of fresh pages takes a fifteenth of a small model's step.
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def for_one_core() -> dict[str, str]:
    """The environment of a child that has one core, but for what this process was told itself."""
    return {name: os.environ.get(name, value) for name, value in ONE_CORE.items()}


def start(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Start `python ARGUMENTS`, which has to call `end_with_parent`.

    environment: added to this process's; options: passed to Popen. The child has its own session,
    so that Ctrl-C reaches the parent only, which passes signals on.
    """
    inherited = {**os.environ, **(environment or {}), PARENT: str(os.getpid())}
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, env=inherited, start_new_session=True, **options)


def end_with_parent() -> None:
    """End this process by SIGTERM when the parent that called `start` has ended."""
    parent = os.environ.pop(PARENT, None)  # processes started from here do not inherit it
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def end(processes: Sequence[subprocess.Popen[bytes]], number: int = signal.SIGTERM) -> None:
    """Ask the processes to end, wait, and kill those still running after GRACE_SECONDS."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Ending:
    """How a process failed: the class of its exception, the error message and the exit code."""

    kind: str
    message: str
    code: int


def killed(code: int) -> str:
    """Describe a negative exit code, e.g. "was killed by SIGTERM"."""
    name = signal.Signals(-code).name
    hint = " (by hand, or because memory ran out)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def is_launched() -> bool:
    """Whether the process that started this one waits for its report, and speaks for it."""
    return bool(os.environ.get(REPORT))


def report(kind: str, message: str, code: int) -> bool:
    """Tell the parent how this process ends; return False if the parent did not ask for it."""
    path = os.environ.get(REPORT)
    if path:
        Path(path).write_text(json.dumps(asdict(Ending(kind, message, code))))
    return bool(path)


def read_report(path: Path) -> Ending | None:
    """Return what a child reported; None if it did not report."""
    try:
        return Ending(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None


def leave(code: int) -> NoReturn:
    """Exit; one of several processes exits without stopping its C++ threads, which could abort."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def is_worker_death(error: Exception) -> bool:
    """Return whether `error` means that a data worker died.

    Torch raises a RuntimeError at an arbitrary place; a read of the worker's data may fail first.
    """
    reported = isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")
    return reported or isinstance(error, ConnectionError | EOFError)
