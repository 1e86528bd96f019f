"""Start-up: wall seconds and peak memory of the commands that only read or print.

    python -m tests.speed.startup [--dry]

Not races: what the project asks for is absolute, at most `SECONDS` of the clock, the best of
`ROUNDS` because others use the machine too, and `MEBIBYTES`, for each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.speed.records import save

RECORDS = 632  # of the store that is printed
SECONDS, MEBIBYTES = 1.0, 200
ROUNDS = 5
ROOT = Path(__file__).parents[2]
COMMANDS = {
    "--version": ["--version"],
    "--help": ["--help"],
    "list": ["list"],
    "doctor": ["doctor"],
    f"table of {RECORDS} records": ["table", "--out", "store"],
    "completion of a config": [],
}
COMPLETION = {
    "_SSLBENCH_COMPLETE": "complete_bash",
    "COMP_WORDS": "sslbench pretrain --config shapes/",
    "COMP_CWORD": "3",
}
# A child's ru_maxrss would count what it was forked from; VmHWM is its own.
CODE = """
import re, sys, time
from pathlib import Path
from sslbench.cli import _run
sys.argv[0] = "sslbench"
try:
    _run()
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
    Path("used").write_text(f"{time.process_time()} {peak}")
"""


def write_store(folder: Path, count: int) -> None:
    """The records of results/shapes, repeated with other seeds until there are `count`."""
    text = (ROOT / "results" / "shapes" / "records.jsonl").read_text()
    known = [json.loads(line) for line in text.splitlines()]
    folder.mkdir()
    with (folder / "records.jsonl").open("w") as file:
        for k in range(count):
            record = known[k % len(known)]
            seed = record.get("seed", 0) + 100 * (k // len(known))
            file.write(json.dumps({**record, "seed": seed}) + "\n")


def cost(arguments: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds of the clock and of the CPU, and peak MiB, of a command that must succeed."""
    completion: Mapping[str, str] = {} if arguments else COMPLETION
    command = [sys.executable, "-c", CODE, *arguments]
    environment = {**os.environ, **completion}
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    clock = time.perf_counter() - began
    cpu, peak = map(float, (folder / "used").read_text().split())
    return clock, cpu, peak / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.speed.startup", description=__doc__)
    parser.add_argument("--dry", action="store_true", help="keep no record")
    dry = parser.parse_args().dry
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder) / "store", RECORDS)
        for name, arguments in COMMANDS.items():
            costs = [cost(arguments, Path(folder)) for _ in range(ROUNDS + 1)][1:]
            clock, cpu, peak = map(list, zip(*costs, strict=True))
            rows[name] = {"seconds": clock, "cpu_seconds": cpu, "mebibytes": max(peak)}
            well = min(clock) <= SECONDS and max(peak) <= MEBIBYTES
            print(
                f"{name}: {min(clock):.2f} s ({statistics.median(cpu):.2f} of the CPU), "
                f"{max(peak):.0f} MiB{'' if well else ', too much'}",
                flush=True,
            )
    if not dry:
        wanted = {"seconds": SECONDS, "mebibytes": MEBIBYTES}
        save("startup", {"what": "start-up", "wanted": wanted, "commands": rows})


if __name__ == "__main__":
    main()
