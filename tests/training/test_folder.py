"""Whose a run directory is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from sslbench.errors import UserError
from sslbench.storage import layout
from sslbench.training import runs
from sslbench.training.folder import LOCK, check_free, locked, reserved

HOLDER = """
import sys
from pathlib import Path
from sslbench.training.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def recipe():
    return runs.choose_recipe("dino", None, None, ["train.seed=4"])[0]


def test_a_new_run_gets_a_folder_of_its_own(tmp_path, recipe) -> None:
    """Also when several start together: the folder is there once it is chosen."""
    place = tmp_path / "runs"
    with (
        reserved(None, place, recipe) as first,
        reserved(None, place, recipe) as second,
        reserved(None, place, recipe) as third,
    ):
        names = [folder.name for folder in (first, second, third)]
    assert names == ["dino-shapes-seed4", "dino-shapes-seed4-2", "dino-shapes-seed4-3"]


@pytest.mark.parametrize("name", ["/etc/x/y", "../../x/y", "/y", "../y"])
def test_a_name_never_leads_out_of_the_folder_of_runs(tmp_path, recipe, name) -> None:
    with reserved(None, tmp_path / "runs", replace(recipe, name=name)) as folder:
        assert folder.parent == tmp_path / "runs"
        assert ".." not in folder.name


@pytest.mark.parametrize("out", [None, "deep/run"])
def test_a_folder_that_an_error_leaves_empty_goes_again(tmp_path, recipe, out) -> None:
    with (
        pytest.raises(UserError),
        reserved(out and tmp_path / out, tmp_path / "runs", recipe) as folder,
        locked(folder),
    ):
        assert folder.is_dir()
        raise UserError("wrong")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [layout.STATE, layout.PREVIOUS, layout.WEIGHTS])
def test_a_folder_that_holds_a_run_is_not_free(tmp_path, name) -> None:
    check_free(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(UserError, match="already holds a run; add --resume"):
        check_free(tmp_path)


def test_a_folder_of_others_is_left_alone(tmp_path) -> None:
    for leftover in (LOCK, "console.log"):  # of a run that never began
        (tmp_path / leftover).touch()
    check_free(tmp_path)
    (tmp_path / "config.json").write_text('{"their": "own"}')
    with pytest.raises(UserError, match=r"holds other files \(config\.json\)"):
        check_free(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        check_free(tmp_path / "config.json")


def test_one_process_trains_in_a_folder(tmp_path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "held\n"
        taken = f"being trained by process {other.pid} on "
        with pytest.raises(UserError, match=taken), locked(tmp_path):
            pass
        other.stdin.close()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
