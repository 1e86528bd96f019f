"""Runs that several files look at; each takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslbench.benchmarks.dense.runner import run
from tests.benchmarks.dense.small import DETECTOR, small_config, write_config


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="session")
def ended(root: Path, tmp_path_factory: pytest.TempPathFactory):
    """ended(DETECTOR): the folder of a run in this process that was never interrupted.

    `predictions*` holds what it was judged by.
    """
    folders: dict[tuple[str, str], Path] = {}

    def get(what: tuple[str, str]) -> Path:
        if what not in folders:
            folder = tmp_path_factory.mktemp("ended")
            config, out = small_config(root, *what), str(folder / "predictions")
            config.test_evaluator["outfile_prefix" if what == DETECTOR else "output_dir"] = out
            run(write_config(folder, config))
            folders[what] = folder
        return folders[what]

    return get
