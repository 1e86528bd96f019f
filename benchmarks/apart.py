"""Jobs in processes of their own: started, followed by their log, ended with the suite, resumed.

A run directory holds log.jsonl while it works, console.log with its last words, and at the end
metrics.json, which is sealed: a run that ended is not repeated.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from sslbench.benchmark import Context
from sslbench.errors import RunError, UserError
from sslbench.storage.sealed import DamagedFile, load_checked_json
from sslbench.system.distributed import LostPeers
from sslbench.system.interrupts import Interrupted, raised
from sslbench.system.launch import KILLED, Team
from sslbench.system.printing import printable, speak_safely
from sslbench.system.processes import Ending, end_with_parent, for_one_core, report
from sslbench.training.log import LOG, read_log

METRICS, CONSOLE = "metrics.json", "console.log"
POLL_SECONDS = 0.5
STARTED = "--- started"  # line of console.log between the attempts
log = logging.getLogger(__name__)
ERROR = "error: "  # begins the one sentence of a run that ends as planned for


def process_count() -> int:
    """How many processes a job has: one per GPU, or one where there is none."""
    return max(1, torch.cuda.device_count())


def known_metrics(folder: Path) -> dict | None:
    """The metrics of a run that has ended; None, with a warning, where they are damaged."""
    try:
        return load_checked_json(folder / METRICS)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        log.warning("%s The run is tested again.", error)
        return None


def run_apart(
    command: Sequence[str], folder: Path, context: Context, total: int, processes: int | None = None
) -> dict:
    """The metrics that `python COMMAND` leaves in `folder`.

    total: its steps, for the progress shown. processes: one per GPU, or one where there is none,
    unless given. RunError where the suite is cancelled meanwhile; UserError or RuntimeError, with
    the run's last words, where it fails.
    """
    with _start(command, folder, processes or process_count()) as team:
        _follow(team, folder, total, context)
    return load_checked_json(folder / METRICS)


def _start(command: Sequence[str], folder: Path, processes: int) -> Team:
    with (folder / CONSOLE).open("ab") as console:
        console.write(f"{STARTED}\n".encode())
        console.flush()
        return Team(command, processes, for_one_core(), stdout=console, stderr=console)


def _follow(team: Team, folder: Path, total: int, context: Context) -> None:
    """Waits for the run to end while reporting its steps; ends it when the suite is cancelled."""
    while team.running() and not context.cancelled.is_set():
        records = read_log(folder) if (folder / LOG).exists() else []
        if records:
            context.progress(int(records[-1]["step"]), total)
        time.sleep(POLL_SECONDS)
    worst = team.worst()
    if context.cancelled.is_set():
        raise RunError(f"{folder} was interrupted; repeat the command to resume it.")
    if worst is not None:
        raise _failure(worst, folder)


def _failure(ending: Ending, folder: Path) -> Exception:
    """What ended this attempt from outside, or its last message."""
    if ending.kind in (KILLED, Interrupted.__name__):
        return RunError(f"{_stopped(ending)}; repeat the command to resume it.")
    lines = (folder / CONSOLE).read_text(errors="replace").rpartition(STARTED)[2].split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    sentences = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    if ending.code == 2 and sentences:
        return UserError(sentences[-1])
    silent = f"it ended with code {ending.code} without a message"
    message = [*lines, *sentences][-1] if lines else silent
    return RuntimeError(f"{message} (see {folder / CONSOLE})")


def _stopped(ending: Ending) -> str:
    if ending.kind == KILLED:
        return ending.message
    name = signal.Signals(ending.code - 128).name
    return f"stopped by {name}, {ending.message}" if ending.message else f"stopped by {name}"


def carry_out(work: Callable[[], None]) -> int:
    """Does a job in this process; the exit code: 2 for wrong use, 1 for a failed run.

    It ends with the process that started it, and says in one sentence why it failed.
    """
    speak_safely()
    end_with_parent()
    try:
        with raised():
            work()
    except Interrupted as end:
        report(type(end).__name__, end.message, end.code)
        print(printable(end.sentence), file=sys.stderr)
        return end.code
    except (UserError, RunError) as error:
        code, sentence = 2 if isinstance(error, UserError) else 1, " ".join(str(error).split())
        # one that lost the others leaves the last word to them
        if not report(type(error).__name__, sentence, code) or not isinstance(error, LostPeers):
            print(f"{ERROR}{printable(sentence)}", file=sys.stderr)
        return code
    return 0
