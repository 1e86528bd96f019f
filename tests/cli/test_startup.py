"""Commands that compute nothing do not load torch, which takes seconds and a gigabyte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy", "transformers")
SCRIPT = """
import resource, sys
from sslbench import cli
sys.argv = ["sslbench", *sys.argv[1:]]
try:
    cli._run()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print("loaded", *[name for name in {heavy} if name in sys.modules], file=sys.stderr)
    print("seconds", used.ru_utime + used.ru_stime, file=sys.stderr)
"""
RECORDS = Path(__file__).parents[2] / "results" / "shapes"
SECONDS = 5.0  # of computing, far above what is needed, for busy machines
LIGHT = [
    "--version",
    "--help",
    "evaluate --help",
    "table --out nowhere",
    "table --published",
    f"table --out {RECORDS}",
    "table --layout nonsense",
    "table --published --layout ibot-table1",
    "table --format nonsense --published",
    "doctor",
    "list",
    *(f"list {kind}" for kind in ("methods", "tokenizers", "benchmarks", "backbones", "weights")),
    "list configs",
    "list nonsense",
    "evaluate --suite nonsense",
    "evaluate --benchmark nonsense",
    "evaluate --split nonsense",
    "pretrain --method nonsense",
    "pretrain --config nonsense",
    "pretrain --method dino --nonsense",
    "pretrain --method dino --nproc 0",
    "pretrain --method dino --set nonsense",
    "pretrain --method dino --data nowhere/at/all",
    "pretrain --method dino --data nonsense",
    "evaluate --data nowhere/at/all",
    "evaluate --data images=nowhere/at/all",
    "evaluate --coco nowhere/at/all",
    "evaluate --classifier nowhere.pth",
    "settings nonsense",
    "tokenizer train --kind nonsense",
]


@pytest.mark.parametrize("typed", LIGHT)
def test_a_command_that_computes_nothing_does_not_load_torch(tmp_path, typed) -> None:
    command = [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), *typed.split()]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    *_, loaded, seconds = ended.stderr.splitlines()
    assert loaded == "loaded", ended.stderr
    assert float(seconds.split()[1]) < SECONDS
    assert "Traceback" not in ended.stderr
