"""Distributed training: this process's rank, the number of processes and its device."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from sslbench.errors import RunError

# how gloo, NCCL and the TCP store report that another process is gone
LOST = re.compile(r"gloo|NCCL|TCPStore|by peer|Socket|Broken pipe|recvValue", re.IGNORECASE)


class LostPeers(RunError):
    """Another process of the run ended; its error message says why."""


@dataclass(frozen=True)
class World:
    """This process's rank, the number of processes and this process's device."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        return self.rank == 0


@contextmanager
def join_world() -> Iterator[World]:
    """Yield the world that torchrun or `launch` set in the environment, else a single process.

    Raises LostPeers if another process has ended.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if cuda else 0)
    device = device if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size == 1:
        yield World(0, 1, device)
        return
    try:
        dist.init_process_group("nccl" if cuda else "gloo")
        yield World(rank, size, device)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not LOST.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:120]
        raise LostPeers(
            f"process {rank + 1} of {size} lost the others ({reason}); the error message of the "
            "one that ended says why. Continue from the last checkpoint with --resume."
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def is_first() -> bool:
    """Return whether this process has rank 0 or is the only one."""
    return int(os.environ.get("RANK", 0)) == 0


def is_alone() -> bool:
    """Return whether this process is the only one of its run."""
    return int(os.environ.get("WORLD_SIZE", 1)) == 1


def barrier(world: World) -> None:
    if world.size > 1:
        dist.barrier()
