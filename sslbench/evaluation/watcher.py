"""How a suite tells what it is doing: to nobody, or to a console."""

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
    """Is told how a suite goes, by several threads; this one listens to nothing."""

    def say(self, sentence: str) -> None:
        """Something to know, e.g. what will run."""

    def starts(self, job: str, number: int, total: int) -> None:
        """Job `number` (from 1) of those that have no records yet begins."""

    def progress(self, job: str, what: str, done: int, total: int) -> None:
        """How far a job is with `what`, or as a whole where that is ""; total is 0 if unknown."""

    def ends(self, job: str, outcome: str) -> None:
        """A job has ended: its main values, or why it failed."""


@dataclass
class _Running:
    """A job that runs: its place among all, when it began and how far it is."""

    number: int
    began: float
    told: str = ""
    share: float = 0.0  # of the whole job, where it says so


@dataclass
class Forecast:
    """How long what is left will take: as long as jobs of the same benchmark have taken.

    Benchmarks of which none has ended count as the others do on average.
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
        if (ran := self.running.pop(job, None)) is not None:
            self.seconds[_kind(job)].append(self.clock() - ran.began)

    def left(self) -> float | None:
        """Seconds; None where nothing is known."""
        known = [second for seconds in self.seconds.values() for second in seconds]
        known += [whole for ran in self.running.values() if (whole := self._whole(ran))]
        if not known:
            return None
        mean = sum(known) / len(known)
        waiting = max(0, self.total - self.done - len(self.running))
        rest = [self._rest(job, ran, mean) for job, ran in self.running.items()]
        return (sum(rest) + waiting * mean) / max(1, len(self.running))

    def _whole(self, ran: _Running) -> float:
        """Seconds of a running job as it goes; 0 where it does not say how far it is."""
        return (self.clock() - ran.began) / ran.share if ran.share else 0.0

    def _rest(self, job: str, ran: _Running, mean: float) -> float:
        own = self.seconds[_kind(job)]
        expected = self._whole(ran) or (sum(own) / len(own) if own else mean)
        return max(0.0, expected - (self.clock() - ran.began))

    def __str__(self) -> str:
        left = self.left() if self.done < self.total else None
        about = "" if left is None else f", about {duration(left)} left"
        return f"{self.done}/{self.total} done{about}"


class ConsoleWatcher(Watcher):
    """Results as they come, with jobs done and time left; on a terminal, what runs below them."""

    def __init__(self, console: Console) -> None:
        self.console, self.lock = console, RLock()
        self.forecast = Forecast()
        self.live = Live(
            console=console,
            get_renderable=self.shown,
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
        """One plain line, on a terminal too."""
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def starts(self, job: str, number: int, total: int) -> None:
        with self.lock:
            self.forecast.starts(job, number, total)
        if not self.console.is_terminal:
            self.say(f"{number}/{total} {job}")

    def progress(self, job: str, what: str, done: int, total: int) -> None:
        with self.lock:
            if (ran := self.forecast.running.get(job)) is None:
                return
            ran.told = " ".join(filter(None, (what, f"{done}/{total}" if total else "")))
            ran.share = done / total if total and not what else 0.0

    def ends(self, job: str, outcome: str) -> None:
        with self.lock:
            self.forecast.ends(job)
            self.say(f"{job}: {outcome or 'done'} [{self.forecast}]")

    def shown(self) -> RenderableType:
        """What stands below the results on a terminal: a line a running job, and all together."""
        with self.lock:
            lines = [
                Text(f"{ran.number}/{self.forecast.total} {job}{': ' * bool(ran.told)}{ran.told}")
                for job, ran in self.forecast.running.items()
            ]
            if not self.forecast.total:
                return Group(*lines)
            together = Table.grid(padding=(0, 1))
            bar = ProgressBar(self.forecast.total, self.forecast.done, width=20)
            together.add_row(bar, Text(str(self.forecast)))
            return Group(*lines, together)


def duration(seconds: float) -> str:
    """In words that suit a forecast: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _kind(job: str) -> str:
    """The benchmark of a job, which its name begins with."""
    return job.partition(" ")[0]
