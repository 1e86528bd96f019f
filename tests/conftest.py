"""Tiny data and runs, and the command line called in this process; torch is imported where used."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from sslbench import cli
from tests.pictures import write_images

settings.register_profile("any machine", deadline=None)  # a busy one takes longer than usual
settings.load_profile("any machine")


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, stdout and stderr."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="session")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SSLBENCH_HOME", str(tmp_path_factory.mktemp("home")))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def hang_ups_heeded() -> None:
    """A hang-up ends a process, also where the tests were started under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def sslbench(monkeypatch, capsys, tmp_path) -> Callable[..., Ended]:
    """sslbench("pretrain", "--method", ...) as typed in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["sslbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return Ended(end.value.code, said.out, said.err)

    return call


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 unlabelled images."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 20 training and 5 test images each."""
    root = tmp_path_factory.mktemp("labelled")
    for seed, name in enumerate(("bright", "dark")):
        write_images(root / "train" / name, 20, seed)
        write_images(root / "test" / name, 5, 10 + seed)
    return root


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """The run directory of a tiny tokenizer."""
    from tests.training import small

    out = tmp_path_factory.mktemp("tokenizer") / "run"
    return small.train(small.recipe("dvae", images, train={"epochs": 1}), out)


@pytest.fixture(scope="session")
def dino_run(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> Path:
    """A finished DINO run of five steps."""
    from tests.training import small

    out = tmp_path_factory.mktemp("dino") / "run"
    return small.train(small.recipe("dino", labelled, train={"epochs": 1}), out)
