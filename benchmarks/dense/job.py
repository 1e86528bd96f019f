"""Starts one detector's or segmenter's processes, follows their log and collects their metrics."""

from __future__ import annotations

import logging
import os
import signal
import time
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config

from sslbench.benchmark import Context
from sslbench.errors import RunError, UserError
from sslbench.storage.files import write_atomically
from sslbench.storage.sealed import DamagedFile, load_checked_json
from sslbench.system.interrupts import Interrupted
from sslbench.system.launch import KILLED, Team
from sslbench.system.processes import Ending
from sslbench.training.log import LOG, read_log

CONFIG, METRICS, CONSOLE = "config.py", "metrics.json", "console.log"
POLL_SECONDS = 0.5
STARTED = "--- started"  # line of console.log between the attempts
log = logging.getLogger(__name__)
ERROR = "error: "  # begins the one sentence of a run that ends as planned for


def train_and_test(config: Config, context: Context, processes: int | None = None) -> dict:
    """The metrics of `config`, trained and tested in processes of its own below context.work_dir.

    processes: one per GPU, or one where there is none, unless given. A run that was interrupted
    resumes; one that ended is not repeated. RunError where the suite is cancelled meanwhile;
    UserError or RuntimeError, with the run's last words, where it fails.
    """
    folder = context.work_dir
    folder.mkdir(parents=True, exist_ok=True)
    if (known := _known(folder / METRICS)) is not None:
        return known
    write_atomically(folder / CONFIG, partial(Path.write_text, data=config.pretty_text))
    total = config.train_cfg.get("max_iters", 0)
    with _start(folder, processes or max(1, torch.cuda.device_count())) as team:
        _follow(team, folder, total, context)
    return load_checked_json(folder / METRICS)


def _known(path: Path) -> dict | None:
    """The metrics of a run that has ended; None, with a warning, where they are damaged."""
    try:
        return load_checked_json(path)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        log.warning("%s The run is tested again.", error)
        return None


def _start(folder: Path, processes: int) -> Team:
    command = ["-m", "sslbench.benchmarks.dense", "run", str(folder)]
    environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with (folder / CONSOLE).open("ab") as log:
        log.write(f"{STARTED}\n".encode())
        log.flush()
        return Team(command, processes, environment, stdout=log, stderr=log)


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
