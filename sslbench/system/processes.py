"""Processes that we start: each ends with the one that started it, however that ends."""

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

PARENT = "SSLBENCH_PARENT"  # environment: the process that a child ends with
REPORT = "SSLBENCH_REPORT"  # environment: the file where a child says how it ended
POLL_SECONDS = 0.5
GRACE_SECONDS = 30.0  # to save a checkpoint in; then the process ends, whatever it is doing


def start(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Runs `python ARGUMENTS`, which has to call `end_with_parent`; options: of Popen.

    environment: beside this process's own. The child is in a session of its own: the terminal's
    Ctrl-C reaches its parent alone, which passes signals on.
    """
    inherited = {**os.environ, **(environment or {}), PARENT: str(os.getpid())}
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, env=inherited, start_new_session=True, **options)


def end_with_parent() -> None:
    """Makes this process end, as by SIGTERM, when the one that started it by `start` has ended."""
    parent = os.environ.pop(PARENT, None)  # not for processes that others start from here
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
    """Asks the processes to end and waits until all have; after a grace they are killed."""
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
    """How a process ended badly: the class of what it raised, its words, its exit code."""

    kind: str
    told: str
    code: int


def killed(code: int) -> str:
    """In words, how a process ended whose exit code is negative."""
    name = signal.Signals(-code).name
    hint = " (by hand, or because memory ran out)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def is_launched() -> bool:
    """Whether the process that started this one waits for its report, and speaks for it."""
    return bool(os.environ.get(REPORT))


def report(kind: str, told: str, code: int) -> bool:
    """Tells the parent how this process ends; False if it did not ask."""
    path = os.environ.get(REPORT)
    if path:
        Path(path).write_text(json.dumps(asdict(Ending(kind, told, code))))
    return bool(path)


def read_report(path: Path) -> Ending | None:
    """What a child reported; None where it did not."""
    try:
        return Ending(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None


def leave(code: int) -> NoReturn:
    """Ends this process; one of several without tearing down C++'s threads, which may abort."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def is_worker_death(error: Exception) -> bool:
    """Whether torch noticed that a data worker ended, which it raises wherever the process is.

    A read of what the worker was sending may notice it first.
    """
    told = isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")
    return told or isinstance(error, ConnectionError | EOFError)
