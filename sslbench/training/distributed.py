"""Processes: who we are, and how torchrun starts more of us."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """rank of size processes; device is this process's own."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        return self.rank == 0


@contextmanager
def join_world() -> Iterator[World]:
    """The world torchrun or SLURM's torchrun describes in the environment, else one process."""
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if cuda else 0)
    device = device if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size == 1:
        yield World(0, 1, device)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is rank 0 of what torchrun started, or alone."""
    return int(os.environ.get("RANK", 0)) == 0


def relaunch(arguments: Sequence[str], processes: int) -> int:
    """Runs `sslbench ARGUMENTS` in `processes` processes on this machine; the exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "-m", "sslbench.cli", *arguments]
    return subprocess.run(command, check=False).returncode


def barrier(world: World) -> None:
    if world.size > 1:
        dist.barrier()
