"""How the time and the memory of every part of sslbench grow with its sizes.

    python -m tests.speed.growth_of_parts              measures all parts
    python -m tests.speed.growth_of_parts knn-k table  measures two anew

PARTS of the modules growth_of_* say which parts there are.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it

import argparse
from dataclasses import asdict

from sslbench.errors import nearest
from tests.speed import growth_of_data, growth_of_evaluation, growth_of_training
from tests.speed.growth import measured
from tests.speed.records import kept, save, stamp

PARTS = {**growth_of_training.PARTS, **growth_of_data.PARTS, **growth_of_evaluation.PARTS}
RECORD = "growth"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.speed.growth_of_parts")
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="keep no record")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds} measures nothing; give 1 or more.")
    if unknown := [name for name in arguments.parts if name not in PARTS]:
        parser.error(f"no part is called {unknown[0]!r}: {nearest(unknown[0], PARTS)}.")
    found = {}
    for name in arguments.parts or PARTS:
        growth = measured(PARTS[name], arguments.rounds)
        print(growth.line(), flush=True)
        # with a stamp of its own: the other rows may be of another time
        found[name] = {**asdict(growth), "exponent": growth.exponent, **stamp()}
    if not arguments.dry:
        rows = {**kept(RECORD).get("parts", {}), **found}
        save(RECORD, {"parts": {name: rows[name] for name in PARTS if name in rows}})


if __name__ == "__main__":
    main()
