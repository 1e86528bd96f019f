"""The cores and threads that this process may use, and how its processor takes tiny numbers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CGROUPS, PROCESS_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
CPUS = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Return the number of cores for this process, at least 1.

    That is the smaller of its CPU affinity and its container's CPU quota, divided by the number of
    processes that torchrun started on this machine.
    """
    shared_by = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return max(1, int(min([_affinity(), *_quotas()])) // max(1, shared_by))


def cpu_flags() -> set[str]:
    """What Linux says the first CPU can do, e.g. "avx512_bf16"; empty where nothing says so."""
    return set(of_first_cpu("flags").split())


def cpu_vendor() -> str:
    """Who made the first CPU, e.g. "AuthenticAMD"; empty where Linux does not say so."""
    return of_first_cpu("vendor_id")


def of_first_cpu(name: str) -> str:
    """What Linux says of the first CPU under `name`, e.g. "model"; empty where it says nothing."""
    try:
        lines = CPUS.read_text().splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == name)
    return next(found, "")


def limit_threads(wanted: int = 0) -> None:
    """Give torch `wanted` threads; 0: its default, but at most `usable_cores`.

    Torch ignores container quotas: it would start one thread per core, and most would wait.
    """
    import torch

    torch.set_num_threads(wanted or min(torch.get_num_threads(), usable_cores()))


@contextmanager
def denormals_as_zeros() -> Iterator[None]:
    """Take float32 numbers below 1.2e-38 (float64: 2.2e-308) as 0 in torch's arithmetic.

    The probabilities of a saturated classifier are full of them, and Intel's processors multiply
    them several times slower. This thread has its former state afterwards. Threads that torch
    starts meanwhile take them so for good; those it has already do not, and stay slow.
    """
    import torch

    before = sys.float_info.min / 2 == 0
    try:
        torch.set_flush_denormal(True)
        yield
    finally:
        torch.set_flush_denormal(before)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """Yield the cores that each control group of this process may use (versions 1 and 2)."""
    try:
        lines = PROCESS_CGROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        hierarchy, controllers, group_path = line.split(":", 2)
        if hierarchy == "0":
            files = [("", "cpu.max")]
        elif "cpu" in controllers.split(","):
            files = [(name, "cpu.cfs_quota_us cpu.cfs_period_us") for name in ("cpu", controllers)]
        else:
            continue
        innermost = Path(group_path.lstrip("/"))  # a container may see its own group as the root
        for folder, names in files:
            for group in (innermost, *innermost.parents):
                quota = _quota(CGROUPS / folder / group, names.split())
                if quota is not None:
                    yield quota


def _quota(group: Path, names: list[str]) -> float | None:
    """Return quota / period, in cores; None if the group does not exist or has no limit."""
    try:
        quota, period = (float(x) for name in names for x in (group / name).read_text().split())
    except (OSError, ValueError):  # "max"
        return None
    return quota / period if quota > 0 and period > 0 else None
