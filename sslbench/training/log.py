"""The output of a run: log.jsonl, a tracker, and a progress bar or plain lines."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sslbench.errors import UserError
from sslbench.storage.files import parse_json, read_small, write_atomically
from sslbench.system.printing import printable
from sslbench.training.trackers import Kind, open_tracker

LOG, QUIET_SECONDS = "log.jsonl", 15.0
LARGEST = 2**30  # bytes: millions of steps
logger = logging.getLogger(__name__)


class RunLog:
    """Context manager that writes a line of log.jsonl per call of `write`.

    On a terminal there is a bar with the time left, elsewhere a plain line every 15 seconds.
    """

    def __init__(
        self,
        folder: Path | None,
        start_step: int,
        total_steps: int,
        console: Console,
        tracker: Kind = "tensorboard",
    ) -> None:
        """folder: None for a process that logs nothing."""
        if folder is not None:
            keep_until(folder / LOG, start_step)
        self._path = Path(os.devnull if folder is None else folder / LOG)
        self._file, self._skipped = self._path.open("a"), 0
        self._kind = tracker
        self._tracker = None if folder is None else open_tracker(tracker, folder)
        self._console, self._start, self._total = console, start_step, total_steps
        self._began = self._spoke = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
            console=console,
            disable=not console.is_terminal,
        )
        name = printable(folder.name) if folder else ""
        self._task = self._bar.add_task(name, total=total_steps, values="")

    def __enter__(self) -> RunLog:
        self._bar.start()
        self._bar.update(self._task, completed=self._start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        with contextlib.suppress(OSError):  # the full disk has already been reported
            self._file.close()
        if self._tracker:
            try:
                self._tracker.close()
            except Exception as failure:  # as in `_track`; log.jsonl is complete and closed
                logger.warning("the tracker could not be closed (%s).", failure)

    def write(self, values: Mapping[str, float]) -> None:
        """Writes one record; `values` holds "step" (steps done) and the values to plot."""
        self._put(values)
        step = int(values["step"])
        self._track(values, step)
        self._bar.update(self._task, completed=step, values=_words(values))
        if not self._console.is_terminal and self._due(step):
            self._spoke = time.monotonic()
            self._show(f"step {step}/{self._total} {_words(values)} {self._left(step)}")

    def say(self, text: str) -> None:
        """Prints a sentence and keeps it in the log file."""
        text = printable(text)
        self._put({"note": text})
        self._show(text)

    def ended(self, weights: Path) -> None:
        """Prints the last line: the duration, the place of the weights, and the next command."""
        took = timedelta(seconds=round(time.monotonic() - self._began))
        self.say(
            f"done in {took}; weights: {weights}; evaluate them with `sslbench evaluate --model "
            f"{shlex.quote(str(weights.parent))}`"
        )

    def skipped(self, text: str) -> None:
        """Reports an image that cannot be read, with its number among those so far."""
        self._skipped += 1
        self.say(f"skipped broken image {self._skipped}: {text}")

    def _track(self, values: Mapping[str, float], step: int) -> None:
        if self._tracker is None:
            return
        # mmengine's backend of W&B drops `step`, so there it is a value among the others
        scalars = {k: v for k, v in values.items() if k != "step" or self._kind == "wandb"}
        try:
            self._tracker.add_scalars(scalars, step=step)
        except Exception as error:  # a server that is gone is no reason to lose a run
            self._tracker = None
            self.say(f"the tracker has failed ({error}); curves are in {LOG} only.")

    def _put(self, record: Mapping[str, Any]) -> None:
        try:
            # JSON knows neither NaN nor infinity
            plain = {
                k: v if isinstance(v, str) or math.isfinite(v) else None for k, v in record.items()
            }
            self._file.write(json.dumps(plain) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be written ({error.strerror}); free disk space, then "
                "resume with --resume."
            ) from error

    def _show(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _due(self, step: int) -> bool:
        return step == self._total or time.monotonic() - self._spoke > QUIET_SECONDS

    def _left(self, step: int) -> str:
        done = max(1, step - self._start)
        seconds = (time.monotonic() - self._began) / done * (self._total - step)
        return f"left {timedelta(seconds=round(seconds))}"


def keep_until(path: Path, step: int) -> None:
    """Drops records after `step`, which a resumed run is about to write again.

    Anything there that is not a file, or is larger than any log, is renamed.
    """
    if not path.exists():
        return
    try:
        lines = list(_sound_lines(path))
    except OSError as error:
        aside = path.with_name(f"{path.name}.damaged")
        logger.warning("%s is damaged (%s); it is now %s.", path, error, aside.name)
        path.replace(aside)
        return
    kept = []
    for line, record in lines:
        if record.get("step", 0) > step:
            break
        kept.append(line + b"\n")
    write_atomically(path, lambda p: p.write_bytes(b"".join(kept)))


def read_log(folder: Path) -> list[dict[str, float]]:
    """The records of a run, without its notes and a last line that is still being written."""
    return [record for _, record in _sound_lines(folder / LOG) if "step" in record]


def _sound_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each complete line with its record; damaged lines are skipped: a curve loses a point."""
    for line in read_small(path, LARGEST).split(b"\n")[:-1]:
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step", 0), int | float):
            yield line, record


def _words(values: Mapping[str, float]) -> str:
    shown = {k: v for k, v in values.items() if k.startswith("loss") or k.endswith("entropy")}
    shown |= {k: v for k, v in values.items() if k.startswith(("knn", "views_match"))}
    shown |= {k: values[k] for k in ("images_per_s", "data_wait_percent") if k in values}
    return "  ".join(f"{k} {v:.4g}" for k, v in shown.items())
