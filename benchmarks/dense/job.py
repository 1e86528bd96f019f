"""Trains and tests one detector or segmenter in processes of its own and collects its metrics."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mmengine.config import Config

from sslbench.benchmark import Context
from sslbench.benchmarks.apart import METRICS as METRICS
from sslbench.benchmarks.apart import known_metrics, run_apart
from sslbench.storage.files import write_atomically

CONFIG = "config.py"


def train_and_test(config: Config, context: Context, processes: int | None = None) -> dict:
    """The metrics of `config`, trained and tested in processes of its own below context.work_dir.

    A run that was interrupted resumes; one that ended is not repeated. processes and errors: as of
    `run_apart`.
    """
    folder = context.work_dir
    folder.mkdir(parents=True, exist_ok=True)
    if (known := known_metrics(folder)) is not None:
        return known
    write_atomically(folder / CONFIG, partial(Path.write_text, data=config.pretty_text))
    total = config.train_cfg.get("max_iters", 0)
    command = ["-m", "sslbench.benchmarks.dense", "run", str(folder)]
    return run_apart(command, folder, context, total, processes)
