"""How a suite tells what it is doing: to nobody, or to a console."""

from __future__ import annotations

from threading import Lock

from rich.console import Console
from rich.text import Text


class Watcher:
    """Is told how a suite goes, by several threads; this one listens to nothing."""

    def say(self, sentence: str) -> None:
        """Something to know before the jobs begin."""

    def starts(self, job: str, number: int, total: int) -> None:
        """Job `number` (from 1) of those that have no records yet begins."""

    def progress(self, job: str, what: str, done: int, total: int) -> None:
        """How far a job is with `what`, or as a whole where that is ""."""

    def ends(self, job: str, outcome: str) -> None:
        """A job has ended: its main values, or why it failed."""


class ConsoleWatcher(Watcher):
    """A status line of the running jobs on a terminal, else a line when a job starts and ends."""

    def __init__(self, console: Console) -> None:
        self.console, self.lock = console, Lock()
        self.status = console.status("evaluating")
        self.numbers: dict[str, str] = {}
        self.shown: dict[str, str] = {}

    def __enter__(self) -> ConsoleWatcher:
        self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.status.stop()

    def say(self, sentence: str) -> None:
        """One plain line, on a terminal too."""
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def starts(self, job: str, number: int, total: int) -> None:
        self.numbers[job] = f"{number}/{total} {job}"
        self._log(self.numbers[job])
        self._show(job, "")

    def progress(self, job: str, what: str, done: int, total: int) -> None:
        self._show(job, " ".join(filter(None, (what, f"{done}/{total}"))))

    def ends(self, job: str, outcome: str) -> None:
        self._log(f"{job}: {outcome or 'done'}")
        with self.lock:
            self.shown.pop(job, None)

    def _log(self, line: str) -> None:
        if not self.console.is_terminal:
            self.say(line)

    def _show(self, job: str, progress: str) -> None:
        number = self.numbers.get(job, job)
        with self.lock:
            self.shown[job] = f"{number}: {progress}" if progress else number
            self.status.update(Text(" | ".join(self.shown.values())))
