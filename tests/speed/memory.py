"""Peak memory of a training step of iBOT against the official structure.

    python -m tests.speed.memory [--dry]

Not a race: each side is a process of its own, and none is timed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it

import argparse
from functools import partial

from tests.reference.steps import OfficialIBOT
from tests.speed.apart import apart
from tests.speed.race import Work
from tests.speed.records import save
from tests.speed.steps import DROP_PATH, WORK, build, draw_batch, run_of, set_drop_path, stepping

BATCH, STEPS = 16, 3
OURS, THEIRS, WANTED = "sslbench, bf16", "official structure, fp32", 0.5


def ours(precision: str, images: int = BATCH) -> Work:
    method = build("ibot")
    batch = draw_batch(method, images)
    method.student["backbone"].set_drop_path(DROP_PATH)
    step = stepping(run_of(method, precision, images), batch)
    return lambda: [step() for _ in range(STEPS)]


def theirs(bf16: bool, images: int = BATCH) -> Work:
    method = build("ibot")
    batch = draw_batch(method, images)
    official = OfficialIBOT(method, 0.0, bf16)
    set_drop_path(method, official)
    return lambda: [official.step(batch) for _ in range(STEPS)]


SIDES = {
    OURS: partial(ours, "bf16"),
    "sslbench, fp32": partial(ours, "fp32"),
    THEIRS: partial(theirs, False),
    "official structure, bf16": partial(theirs, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.speed.memory", description=__doc__)
    parser.add_argument("--dry", action="store_true", help="keep no record")
    dry = parser.parse_args().dry
    rows = {}
    for name, side in SIDES.items():
        cost = apart(side)
        rows[name] = {"before": cost.before, "peak": cost.peak}
        print(
            f"{name}: {cost.peak:.0f} MiB at most, {cost.mebibytes:.0f} of them beside what was "
            "there before the first step",
            flush=True,
        )
    if not dry:
        work = f"{STEPS} steps of {WORK['ibot']}, batch {BATCH}"
        wanted = {OURS: WANTED}
        save("memory", {"work": work, "against": THEIRS, "wanted": wanted, "mebibytes": rows})


if __name__ == "__main__":
    main()
