"""What of this machine is ours to use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores for this process: of those that it may run on, its share of the container's allotment.

    torchrun's processes on this machine share evenly. At least 1.
    """
    shared_by = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return max(1, int(min([_affinity(), *_quotas()])) // max(1, shared_by))


def cpu_flags() -> set[str]:
    """What Linux says the first CPU can do, e.g. "avx512_bf16"; empty where nothing says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def limit_threads(wanted: int = 0) -> None:
    """Gives torch `wanted` threads; 0: as many as it has, but no more than `usable_cores`.

    Torch does not look for an allotment: it would start a thread a core, most of which wait.
    """
    import torch

    torch.set_num_threads(wanted or min(torch.get_num_threads(), usable_cores()))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """Cores that each control group around this process may use, of version 1 and 2."""
    try:
        lines = OWN.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, place = line.split(":", 2)
        if number == "0":
            files = [("", "cpu.max")]
        elif "cpu" in controllers.split(","):
            files = [(name, "cpu.cfs_quota_us cpu.cfs_period_us") for name in ("cpu", controllers)]
        else:
            continue
        below = Path(place.lstrip("/"))  # of the host; a container may see its own group on top
        for folder, names in files:
            for group in (below, *below.parents):
                quota = _quota(GROUPS / folder / group, names.split())
                if quota is not None:
                    yield quota


def _quota(group: Path, names: list[str]) -> float | None:
    """quota / period in microseconds; None for a group that is not there or has no limit."""
    try:
        quota, period = (float(x) for name in names for x in (group / name).read_text().split())
    except (OSError, ValueError):  # "max"
        return None
    return quota / period if quota > 0 and period > 0 else None
