"""Runs races and keeps their records in results/speed, one file a race and processor."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it

import argparse
import statistics
import sys
from collections.abc import Callable
from importlib import import_module

from sslbench.errors import nearest
from tests.speed.race import Outcome, Race, peaks, run
from tests.speed.records import save

RACES = {  # name -> the file and function that set it up
    "ibot-fp32": "steps:ibot_fp32",
    "ibot-bf16": "steps:ibot_bf16",
    "dino-fp32": "steps:dino_fp32",
    "dino-bf16": "steps:dino_bf16",
    "ibot-lightly-fp32": "lightly_step:fp32",
    "ibot-lightly-bf16": "lightly_step:bf16",
    "beit-fp32": "steps:beit_fp32",
    "beit-bf16-fp32": "steps:beit_against_fp32",
    "beit-bf16": "steps:beit_bf16",
    "k-means": "clusters:against_faiss",
    "k-means++": "clusters:against_scikit_learn",
    "features": "extraction:float32",
    "features-bf16": "extraction:bf16",
    "knn": "neighbours:race",
    "linear": "grid:race",
    "logistic": "logistic:race",
    "block-masks": "masks:block_masks",
    "multi-crop": "multi_crop:colours_on_the_cpu",
    "multi-crop-device": "multi_crop:colours_left_to_the_device",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.speed", description=__doc__)
    parser.add_argument("races", nargs="*", metavar="NAME", help="none: list them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="run every race")
    parser.add_argument("--dry", action="store_true", help="keep no record")
    arguments = parser.parse_args()
    chosen = list(RACES) if arguments.all else list(dict.fromkeys(arguments.races))
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds} times nothing; give 1 or more.")
    if unknown := [name for name in chosen if name not in RACES]:
        parser.error(f"no race is called {unknown[0]!r}: {nearest(unknown[0], RACES)}.")
    for name in chosen:
        race = prepared(name)
        outcome = run(race, arguments.rounds)
        print(*described(race, outcome), sep="\n", flush=True)
        if not arguments.dry:
            keep(race, outcome)
    if not chosen:
        print(*RACES, sep="\n")


def prepared(name: str) -> Race:
    module, _, function = RACES[name].partition(":")
    try:
        set_up: Callable[[], Race] = getattr(import_module(f"tests.speed.{module}"), function)
        return set_up()
    except ModuleNotFoundError as error:
        sys.exit(f"{name} needs {error.name}: pip install -e '.[speed]', or make speed.")


def described(race: Race, outcome: Outcome) -> list[str]:
    seconds = statistics.median(outcome.ours)
    lines = [f"{race.name}: {race.work}; {seconds:.3g} CPU s; {race.same}"]
    for rival in race.rivals:
        ratios, wanted = outcome.ratios(rival), race.wanted.get(rival)
        goal = f", wanted {wanted}" if wanted else ""
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        lines.append(f"  {outcome.ratio(rival):.2f} x as fast as {rival} ({spread}{goal})")
    return [*lines, *(f"  {name}: {value}" for name, value in race.notes.items())]


def keep(race: Race, outcome: Outcome) -> None:
    """Writes the record of one race on this processor; an older one is replaced."""
    record = {
        "race": race.name,
        "work": race.work,
        "same": race.same,
        "unit": race.unit,
        "amount": race.amount,
        "wanted": dict(race.wanted),
        "cpu_seconds": {"sslbench": outcome.ours, **outcome.rivals},
        "notes": dict(race.notes),
        "peaks_gflops": peaks(),
        "threads": 1,
    }
    save(race.name, record)


if __name__ == "__main__":
    main()
