"""Starts one detector's or segmenter's processes, follows their log and collects their metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config

from sslbench.benchmark import Context
from sslbench.errors import RunError, UserError
from sslbench.training.checkpoint import write_atomically
from sslbench.training.log import LOG, read_log

CONFIG, METRICS, CONSOLE = "config.py", "metrics.json", "console.log"
POLL_SECONDS = 0.5


def train_and_test(config: Config, context: Context, processes: int | None = None) -> dict:
    """The metrics of `config`, trained and tested in processes of its own below context.work_dir.

    processes: one per GPU, or one where there is none, unless given. A run that was interrupted
    goes on; one that ended is not repeated.
    """
    folder = context.work_dir
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / METRICS).exists():
        write_atomically(folder / CONFIG, partial(Path.write_text, data=config.pretty_text))
        _follow(_start(folder, processes or max(1, torch.cuda.device_count())), folder, context)
    return json.loads((folder / METRICS).read_text())


def _start(folder: Path, processes: int) -> subprocess.Popen[bytes]:
    module = ["-m", "sslbench.benchmarks.dense", "run", str(folder)]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), *module]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with (folder / CONSOLE).open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def _follow(process: subprocess.Popen[bytes], folder: Path, context: Context) -> None:
    """Waits for the run to end while reporting its steps; ends it when the suite is cancelled."""
    config = Config.fromfile(folder / CONFIG)
    total = config.train_cfg.get("max_iters", 0)
    try:
        while process.poll() is None and not context.cancelled.is_set():
            records = read_log(folder) if (folder / LOG).exists() else []
            if records:
                context.progress(int(records[-1]["step"]), total)
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
    if context.cancelled.is_set():
        raise RunError(f"{folder} was interrupted; repeat the command to go on with it.")
    if process.returncode:
        raise _failure(process.returncode, folder)


def _failure(code: int, folder: Path) -> Exception:
    lines = (folder / CONSOLE).read_text().strip().splitlines()
    said = lines[-1].removeprefix("error: ") if lines else "it said nothing"
    if code == 2:
        return UserError(said)
    return RuntimeError(f"{said} (see {folder / CONSOLE})")
