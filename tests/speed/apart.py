"""Work in processes of its own: the CPU seconds and the memory that it takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import re
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from sslbench.storage.home import HOME
from sslbench.system.distributed import World, join_world
from tests.speed.race import Work, cpu_seconds


@dataclass(frozen=True)
class Cost:
    """What a work took, all of its processes together.

    seconds: of the CPU, with one thread a process. before, peak: MiB of the whole process, with
    what it shares with others: before the work, when its data are made, and the most during it.
    """

    seconds: float
    before: float
    peak: float

    @property
    def mebibytes(self) -> float:
        """The most that the work held beside its data."""
        return self.peak - self.before


def apart(prepared: Callable[[], Work]) -> Cost:
    """The cost of the work that `prepared` returns; what it does before that is not counted."""
    return _forked([partial(_cost, prepared)])[0]


def together(prepared: Callable[[World], Work], count: int) -> Cost:
    """The sum over `count` processes, which gloo connects if there are several."""
    world = {"WORLD_SIZE": f"{count}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{_free_port()}"}
    ranks = ({"RANK": f"{rank}", "CUDA_VISIBLE_DEVICES": ""} for rank in range(count))
    costs = _forked([partial(_cost_of_member, prepared, world | rank) for rank in ranks])
    return Cost(*(sum(values) for values in zip(*map(astuple, costs), strict=True)))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _forked(jobs: Sequence[Callable[[], Cost]]) -> list[Cost]:
    """Runs all jobs at a time, each in a process, an empty folder and a home of its own."""
    fork = multiprocessing.get_context("fork")
    answers = []
    for job in jobs:
        mine, other = fork.Pipe(duplex=False)
        process = fork.Process(target=_answer, args=(job, other), daemon=True)
        process.start()
        other.close()
        answers.append((mine, process))
    costs: list[Cost] = []
    for mine, process in answers:
        costs.append(mine.recv())
        process.join()
    return costs


def _answer(job: Callable[[], Cost], answer: Connection) -> None:
    gc.freeze()  # what the parent left is neither searched nor freed here
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ[HOME] = folder
        answer.send(job())


def _cost_of_member(prepared: Callable[[World], Work], place: dict[str, str]) -> Cost:
    os.environ.update(place)
    with join_world() as world:
        return _cost(lambda: prepared(world))


def _cost(prepared: Callable[[], Work]) -> Cost:
    torch.set_num_threads(1)
    work = prepared()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is freed but kept would be subtracted
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak: the parent's, the data's
    before = _memory("VmRSS")
    return Cost(cpu_seconds(work), before, _memory("VmHWM"))


def _memory(name: str) -> float:
    """MiB of this process, as Linux knows them under `name`."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, f"Linux says no {name}"
    return int(found[1]) / 1024
