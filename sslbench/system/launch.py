"""Starts the processes of one run on this machine and reports in one sentence how they ended.

Each process gets its rank in the environment variables of torchrun, so torchrun can start the same
command.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch.distributed as dist

from sslbench.errors import RunError, UserError
from sslbench.system import interrupts, processes
from sslbench.system.distributed import LostPeers
from sslbench.system.interrupts import Interrupted
from sslbench.system.processes import REPORT, Ending, read_report

POLL_SECONDS = 0.2
WAIT_SECONDS = 10.0  # for the other processes to end by themselves after one has failed


class Team:
    """Context manager that runs `python ARGUMENTS` in `count` processes; leaving it ends them."""

    def __init__(
        self,
        arguments: Sequence[str],
        count: int,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """environment: added to this process's; options: passed to Popen."""
        # the store is open before they start, on a port the system chose, so the port stays ours
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._folder = tempfile.TemporaryDirectory(prefix="sslbench-")
        self._reports = [Path(self._folder.name) / f"{rank}.json" for rank in range(count)]
        self._failed_at: float | None = None  # when the first process failed
        self.members = [
            processes.start(
                arguments,
                {**(environment or {}), **self._variables(rank, count), REPORT: str(report)},
                **options,
            )
            for rank, report in enumerate(self._reports)
        ]

    def _variables(self, rank: int, count: int) -> dict[str, str]:
        """Return the environment variables that torchrun would set."""
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
        numbers |= {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": self._store.port}
        texts = {name: str(value) for name, value in numbers.items()}
        return texts | {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}

    def running(self) -> bool:
        """Return whether to keep waiting: yes until WAIT_SECONDS after the first failure."""
        codes = [member.poll() for member in self.members]
        if self._failed_at is None and any(codes):
            self._failed_at = time.monotonic()
        late = self._failed_at is not None and time.monotonic() - self._failed_at > WAIT_SECONDS
        return None in codes and not late

    def signal(self, number: int) -> None:
        for member in self.members:
            if member.poll() is None:
                member.send_signal(number)

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        processes.end(self.members)
        self._folder.cleanup()

    def worst(self) -> Ending | None:
        """Return how the process ended that caused the failure; None if all succeeded."""
        processes.end(self.members)
        endings = [
            _ending(rank, len(self.members), member.returncode, report)
            for rank, (member, report) in enumerate(zip(self.members, self._reports, strict=True))
            if member.returncode
        ]
        return min(endings, key=lambda e: _ORDER.get(e.kind, len(_ORDER)), default=None)

    def failure(self) -> BaseException | None:
        """Return what to raise for `worst`: Interrupted, UserError or RunError with its message."""
        worst = self.worst()
        if worst is None:
            return None
        if worst.kind == Interrupted.__name__:
            return Interrupted(worst.code - 128, worst.message)
        if worst.kind == KILLED:
            return RunError(f"{worst.message}; continue from the last checkpoint with --resume.")
        return (UserError if worst.kind == UserError.__name__ else RunError)(worst.message)


KILLED, UNKNOWN = "killed", "unknown"
# causes come before their consequences: LostPeers is last
_CAUSES = (KILLED, UserError.__name__, RunError.__name__, UNKNOWN, Interrupted.__name__)
_ORDER = {kind: place for place, kind in enumerate((*_CAUSES, LostPeers.__name__))}


def launch(arguments: Sequence[str], count: int) -> None:
    """Run `python ARGUMENTS` in `count` processes and wait; a signal is passed on to them once.

    Raises what `Team.failure` returns.
    """
    with interrupts.noted() as request, Team(arguments, count) as team:
        passed_on = False
        while team.running():
            if request.number and not passed_on:
                team.signal(request.number)
                passed_on = True
            time.sleep(POLL_SECONDS)
        if (error := team.failure()) is not None:
            raise error
        if request.number:  # all processes succeeded all the same
            raise Interrupted(request.number, "the run had ended")


def _ending(rank: int, count: int, code: int, path: Path) -> Ending:
    if (ending := read_report(path)) is not None:
        return ending
    process = f"process {rank + 1} of {count}"
    if -code in interrupts.SIGNALS:  # it came before the process had set its handlers
        return Ending(Interrupted.__name__, "before training began", 128 - code)
    if code < 0:
        return Ending(KILLED, f"{process} {processes.killed(code)}", code)
    return Ending(UNKNOWN, f"{process} ended with exit code {code}; its last lines say why.", code)
