"""Trackers other than TensorBoard: refused where they are missing, never the end of a run."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import types
from pathlib import Path

import pytest
from rich.console import Console

from sslbench.errors import RunError, UserError
from sslbench.training import log as log_module
from sslbench.training.log import LOG, RunLog, read_log
from sslbench.training.trackers import check_installed, open_tracker


class FakeWandb(types.ModuleType):
    """What mmengine's backend calls of wandb."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: dict[str, str] = {}
        self.axes: dict[str, str] = {}
        self.rows: list[dict[str, float]] = []
        self.joined = False

    def init(self, **options: str) -> None:
        self.started = options

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes[name] = step_metric

    def log(self, values: dict[str, float], commit: bool) -> None:
        self.rows.append(values)

    def join(self) -> None:
        self.joined = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_missing_library_is_one_sentence(kind, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"run.tracker={kind} needs .*sslbench\[trackers\]"):
        check_installed(kind)


def test_wandb_gets_the_run_and_its_curves(wandb: FakeWandb, tmp_path: Path) -> None:
    with RunLog(tmp_path, 0, 2, Console(file=io.StringIO()), "wandb") as log:
        log.write({"step": 1, "loss": 2.5})
    assert wandb.started["project"] == "sslbench" and wandb.started["name"] == tmp_path.name
    assert Path(wandb.started["dir"]) == tmp_path / "wandb"
    assert wandb.rows == [{"step": 1, "loss": 2.5}] and wandb.axes == {"*": "step"}
    assert wandb.joined


def test_a_tracker_that_cannot_start_fails_the_run(wandb: FakeWandb, tmp_path: Path) -> None:
    def refuse(**options: str) -> None:
        raise ValueError("not logged in")

    wandb.init = refuse
    with pytest.raises(RunError, match=r"wandb cannot start \(not logged in\): .*WANDB_MODE"):
        open_tracker("wandb", tmp_path)


class Broken:
    """A tracker whose server is gone."""

    def add_scalars(self, values: dict[str, float], step: int) -> None:
        raise ConnectionError("server gone")

    def close(self) -> None:
        raise ConnectionError("server still gone")


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(log_module, "open_tracker", lambda kind, folder: Broken())
    with RunLog(tmp_path, 0, 2, Console(file=io.StringIO())) as log:
        log.write({"step": 1, "loss": 2.5})
        log.write({"step": 2, "loss": 1.5})
    assert [r["step"] for r in read_log(tmp_path)] == [1, 2]
    notes = [
        r["note"] for r in map(json.loads, (tmp_path / LOG).read_text().splitlines()) if "note" in r
    ]
    assert notes == ["the tracker has failed (server gone); curves are in log.jsonl only."]
    with RunLog(tmp_path, 2, 2, Console(file=io.StringIO())):
        pass
    assert "could not be closed (server still gone)" in caplog.text
