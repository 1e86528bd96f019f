"""Starts the processes of one run on this machine and says in one sentence how they ended.

Each is told its place as torchrun tells it, so that a cluster may start the same command itself.
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
WAIT_SECONDS = 10.0  # for the others to end by themselves once one has failed


class Team:
    """Context manager: `python ARGUMENTS` run `count` times side by side; leaving it ends them."""

    def __init__(
        self,
        arguments: Sequence[str],
        count: int,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """environment: beside this process's own; options: of Popen."""
        # they meet at a store of ours, whose port the system chose: nobody can take it meanwhile
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._folder = tempfile.TemporaryDirectory(prefix="sslbench-")
        self._reports = [Path(self._folder.name) / f"{rank}.json" for rank in range(count)]
        self._failed: float | None = None  # when the first of them failed
        self.members = [
            processes.start(
                arguments,
                {**(environment or {}), **self._place(rank, count), REPORT: str(report)},
                **options,
            )
            for rank, report in enumerate(self._reports)
        ]

    def _place(self, rank: int, count: int) -> dict[str, str]:
        """What torchrun would tell the process."""
        place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
        place |= {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": self._store.port}
        told = {name: str(value) for name, value in place.items()}
        return told | {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}

    def running(self) -> bool:
        """Whether to go on waiting: one that failed leaves the others a moment to notice."""
        codes = [member.poll() for member in self.members]
        if self._failed is None and any(codes):
            self._failed = time.monotonic()
        late = self._failed is not None and time.monotonic() - self._failed > WAIT_SECONDS
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
        """How the process ended whose own fault ended the rest; None if all ended well."""
        processes.end(self.members)
        endings = [
            _ending(rank, len(self.members), member.returncode, report)
            for rank, (member, report) in enumerate(zip(self.members, self._reports, strict=True))
            if member.returncode
        ]
        return min(endings, key=lambda e: _ORDER.get(e.kind, len(_ORDER)), default=None)

    def failure(self) -> BaseException | None:
        """What to raise for `worst`: Interrupted, UserError or RunError in its own words."""
        worst = self.worst()
        if worst is None:
            return None
        if worst.kind == Interrupted.__name__:
            return Interrupted(worst.code - 128, worst.told)
        if worst.kind == KILLED:
            return RunError(f"{worst.told}; go on from the last checkpoint with --resume.")
        return (UserError if worst.kind == UserError.__name__ else RunError)(worst.told)


KILLED, UNKNOWN = "killed", "unknown"
# one that failed by itself comes before those that lost it
_FIRST = (KILLED, UserError.__name__, RunError.__name__, UNKNOWN, Interrupted.__name__)
_ORDER = {kind: place for place, kind in enumerate((*_FIRST, LostPeers.__name__))}


def launch(arguments: Sequence[str], count: int) -> None:
    """Runs `python ARGUMENTS` in `count` processes and waits; signals are passed on to them, once.

    Raises what `Team.failure` returns.
    """
    with interrupts.noted() as asked, Team(arguments, count) as team:
        passed = False
        while team.running():
            if asked.number and not passed:
                team.signal(asked.number)
                passed = True
            time.sleep(POLL_SECONDS)
        if (error := team.failure()) is not None:
            raise error
        if asked.number:  # it came when all was done
            raise Interrupted(asked.number, "the run had ended")


def _ending(rank: int, count: int, code: int, path: Path) -> Ending:
    if (told := read_report(path)) is not None:
        return told
    who = f"process {rank + 1} of {count}"
    if -code in interrupts.SIGNALS:  # before it could handle it
        return Ending(Interrupted.__name__, "before training began", 128 - code)
    if code < 0:
        return Ending(KILLED, f"{who} {processes.killed(code)}", code)
    return Ending(UNKNOWN, f"{who} ended with exit code {code}; its last lines say why.", code)
