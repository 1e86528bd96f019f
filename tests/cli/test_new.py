"""`sslbench new` writes packages that work at once."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sslbench import plugins
from tests.test_plugins import install


def test_a_new_package_is_complete(sslbench, tmp_path) -> None:
    for kind, name in (("method", "my_method"), ("benchmark", "my_protocol")):
        ended = sslbench("new", kind, name)
        assert ended.code == 0, ended.err
        folder = tmp_path / name
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        (value,) = project["entry-points"][f"sslbench.{kind}s"].values()
        module, _, attribute = value.partition(":")
        source = ast.parse((folder / f"{module.replace('.', '/')}.py").read_text())
        assert attribute in [n.name for n in source.body if isinstance(n, ast.ClassDef)]
        texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
        assert not [text for text in texts if "NAME" in text or "CLASS" in text]
        assert len((folder / "README.md").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Mine", "'Mine' cannot be a name"),
        ("../mine", "cannot be a name"),
        ("class", "'class' cannot be a name"),
        ("dino", "the method 'dino' is installed already"),
        ("knn", "the benchmark 'knn' is installed already"),
        ("json", "a Python package 'json' is installed already"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused(sslbench, tmp_path, name, message) -> None:
    ended = sslbench("new", "method", name)
    assert ended.code == 2 and message in ended.err
    assert not list(tmp_path.iterdir())


def test_a_package_is_written_whole_or_not_at_all(sslbench, tmp_path, monkeypatch) -> None:
    write, written = Path.write_text, []

    def full_after_two(path: Path, text: str, **options: object) -> int:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full_after_two)
    ended = sslbench("new", "method", "mine")
    assert ended.code == 2 and "No space left on device" in ended.err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(sslbench, tmp_path) -> None:
    (tmp_path / "here").mkdir()
    ended = sslbench("new", "benchmark", "mine", "--out", "here")
    assert ended.code == 2 and "here exists already" in ended.err
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.slow
def test_new_packages_keep_their_promises_train_and_are_evaluated(
    sslbench, tmp_path, labelled
) -> None:
    """Their entry points are put on the path as pip would; the generated tests run as they are."""
    for kind, name in (("method", "newmethod"), ("benchmark", "newbench")):
        assert sslbench("new", kind, name).code == 0
        folder = tmp_path / name
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        install(folder, project["name"], project["entry-points"])
    paths = [str(tmp_path / "newmethod"), str(tmp_path / "newbench")]
    root = Path(plugins.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(root)])}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("pytest", "-q", "-p", "no:cacheprovider", "newmethod/tests", "newbench/tests")
    changes = ("train.batch_size=8", "train.epochs=1", "run.watch_every=0")
    options = ["--config", "shapes/newmethod", "--data", str(labelled), "--out", "run"]
    run("sslbench.cli", "pretrain", *options, *(f"--set={change}" for change in changes))
    asked = ["--benchmark", "newbench", "--benchmark", "knn", "--model", "run"]
    run("sslbench.cli", "evaluate", *asked, "--out", "records")
    table = run("sslbench.cli", "table", "--out", "records", "--layout", "all", "--format", "md")
    assert "newmethod" in table and "newbench" in table and "k-NN" in table
