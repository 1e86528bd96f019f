"""`python -m sslbench.benchmarks.dense`: which tool runs how, and what goes wrong."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from sslbench.benchmarks.dense.__main__ import COMMANDS, main
from sslbench.benchmarks.dense.installation import compiled
from sslbench.errors import RunError, UserError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "unknown command ''"),
        (["mmde", "test"], "did you mean 'mmdet'?"),
        (["mmdet"], "unknown tool '' of mmdet"),
        (["mmseg", "tests", "c.py"], "unknown tool 'tests' of mmseg: did you mean 'test'?"),
    ],
)
def test_wrong_use_is_one_sentence(capsys, arguments: list[str], said: str) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


@pytest.mark.parametrize(("library", "tool"), [("mmdet", "test"), ("mmseg", "train")])
def test_a_tool_runs_as_typed(monkeypatch: pytest.MonkeyPatch, library: str, tool: str) -> None:
    seen = {}

    def run(path: str, run_name: str) -> None:
        seen.update(path=Path(path), name=run_name, argv=sys.argv[:])
        seen["operators"] = "mmcv._ext" in sys.modules or compiled()

    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.setattr(runpy, "run_path", run)
    monkeypatch.setattr(sys, "argv", ["before"])
    assert main([library, tool, "c.py", "--work-dir", "w"]) == 0
    assert seen["path"].is_file() and seen["path"].name == f"{tool}.py"
    assert library in seen["path"].parts
    assert seen["argv"] == [str(seen["path"]), "c.py", "--work-dir", "w"]
    assert seen["name"] == "__main__" and seen["operators"], "the stand-in comes before the tool"


@pytest.mark.parametrize(("error", "code"), [(UserError, 2), (RunError, 1)])
def test_errors_of_a_command_end_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys, error: type[Exception], code: int
) -> None:
    def fail(_: object) -> None:
        raise error("this\nand that.")

    monkeypatch.setitem(COMMANDS, "mmdet", fail)
    assert main(["mmdet", "test"]) == code
    assert capsys.readouterr().err == "error: this and that.\n"


@pytest.mark.slow
def test_mmdet_s_tool_starts_without_compiled_operators() -> None:
    command = [sys.executable, "-m", "sslbench.benchmarks.dense", "mmdet", "test", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "--cfg-options" in done.stdout
