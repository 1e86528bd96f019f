"""Commands that compute nothing are quick and small: they load no torch, no timm, no scipy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy", "transformers")
SCRIPT = """
import re, resource, sys
from pathlib import Path
from sslbench import cli
sys.argv = ["sslbench", *sys.argv[1:]]
try:
    cli._run()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print("loaded", *[name for name in {heavy} if name in sys.modules], file=sys.stderr)
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)
    print(used.ru_utime + used.ru_stime, int(peak) / 1024, file=sys.stderr)
"""
RECORDS = Path(__file__).parents[2] / "results" / "shapes"
SECONDS = 3.0  # of computing; 0.7 is the most that one needs on an idle core
MEBIBYTES = 200  # 60 is the most that one needs
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
    *_, loaded, used = ended.stderr.splitlines()
    assert loaded == "loaded", ended.stderr
    seconds, mebibytes = map(float, used.split())
    assert seconds < SECONDS
    assert mebibytes < MEBIBYTES
    assert "Traceback" not in ended.stderr


PYTHON = [
    ("data = sslbench.open_dataset(images); data.image(0); data.fingerprint", HEAVY),
    (f"sslbench.load_records({str(RECORDS)!r}).table()", HEAVY),
    ("import sslbench.benchmark, sslbench.data.dense, sslbench.result", HEAVY),
    ("import sslbench.method, sslbench.backbones.build", set(HEAVY) - {"torch"}),
]


@pytest.mark.parametrize(("code", "unneeded"), PYTHON)
def test_python_that_computes_nothing_loads_nothing_heavy(images, code, unneeded) -> None:
    script = f"import sys, sslbench\nimages = {str(images)!r}\n{code}\nprint(*sys.modules)"
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert not set(unneeded) & set(ended.stdout.split())
