"""Reports the progress of a suite, e.g. to a console."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import RLock

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


class Watcher:
    """Receives the events of a suite from several threads; this base class ignores them."""

    def say(self, sentence: str) -> None:
        """Report a message, e.g. what will run."""

    def starts(self, job: str, number: int, total: int) -> None:
        """Report the start of job `number` (from 1) of `total` jobs without records."""

    def progress(self, job: str, what: str, done: int, total: int) -> None:
        """Report progress of a job's part `what`, "" for the whole job; total is 0 if unknown."""

    def ends(self, job: str, outcome: str) -> None:
        """Report the end of a job: its main values, or why it failed."""


@dataclass
class _Running:
    """A running job: its number, start time and progress."""

    number: int
    began: float
    progress: str = ""
    share: float = 0.0  # of the whole job, 0 if unknown


@dataclass
class Forecast:
    """Estimates the remaining time from the time that jobs of the same benchmark took.

    For benchmarks without a finished job, it uses the mean over all finished jobs.
    """

    clock: Callable[[], float] = time.monotonic
    total: int = 0
    done: int = 0
    running: dict[str, _Running] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def starts(self, job: str, number: int, total: int) -> None:
        self.total = max(self.total, total)
        self.running[job] = _Running(number, self.clock())

    def ends(self, job: str) -> None:
        self.done += 1
        if (state := self.running.pop(job, None)) is not None:
            self.seconds[_benchmark(job)].append(self.clock() - state.began)

    def left(self) -> float | None:
        """Return the remaining seconds; None if unknown."""
        durations = [second for seconds in self.seconds.values() for second in seconds]
        durations += [total for state in self.running.values() if (total := self._total(state))]
        if not durations:
            return None
        mean = sum(durations) / len(durations)
        waiting = max(0, self.total - self.done - len(self.running))
        remaining = [self._remaining(job, state, mean) for job, state in self.running.items()]
        return (sum(remaining) + waiting * mean) / max(1, len(self.running))

    def _total(self, state: _Running) -> float:
        """Return the expected seconds of a running job by its progress; 0 if that is unknown."""
        return (self.clock() - state.began) / state.share if state.share else 0.0

    def _remaining(self, job: str, state: _Running, mean: float) -> float:
        finished = self.seconds[_benchmark(job)]
        expected = self._total(state) or (sum(finished) / len(finished) if finished else mean)
        return max(0.0, expected - (self.clock() - state.began))

    def __str__(self) -> str:
        left = self.left() if self.done < self.total else None
        about = "" if left is None else f", about {duration(left)} left"
        return f"{self.done}/{self.total} done{about}"


class ConsoleWatcher(Watcher):
    """Prints results with jobs done and time left; on a terminal, also the running jobs."""

    def __init__(self, console: Console) -> None:
        self.console, self.lock = console, RLock()
        self.forecast = Forecast()
        self.live = Live(
            console=console,
            get_renderable=self.status,
            refresh_per_second=2,
            transient=True,
            auto_refresh=console.is_terminal and not console.quiet,
        )

    def __enter__(self) -> ConsoleWatcher:
        if self.live.auto_refresh:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def say(self, sentence: str) -> None:
        """Print one plain line, on a terminal too."""
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def starts(self, job: str, number: int, total: int) -> None:
        with self.lock:
            self.forecast.starts(job, number, total)
        if not self.console.is_terminal:
            self.say(f"{number}/{total} {job}")

    def progress(self, job: str, what: str, done: int, total: int) -> None:
        with self.lock:
            if (state := self.forecast.running.get(job)) is None:
                return
            state.progress = " ".join(filter(None, (what, f"{done}/{total}" if total else "")))
            state.share = done / total if total and not what else 0.0

    def ends(self, job: str, outcome: str) -> None:
        with self.lock:
            self.forecast.ends(job)
            self.say(f"{job}: {outcome or 'done'} [{self.forecast}]")

    def status(self) -> RenderableType:
        """Return what is shown below the results: a line per running job, and overall progress."""
        with self.lock:
            lines = [self._line(job, state) for job, state in self.forecast.running.items()]
            if not self.forecast.total:
                return Group(*lines)
            overall = Table.grid(padding=(0, 1))
            bar = ProgressBar(self.forecast.total, self.forecast.done, width=20)
            overall.add_row(bar, Text(str(self.forecast)))
            return Group(*lines, overall)

    def _line(self, job: str, state: _Running) -> Text:
        progress = f": {state.progress}" if state.progress else ""
        return Text(f"{state.number}/{self.forecast.total} {job}{progress}")


def duration(seconds: float) -> str:
    """Format a duration for a forecast: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _benchmark(job: str) -> str:
    """Return the benchmark of a job, the first word of its name."""
    return job.partition(" ")[0]
