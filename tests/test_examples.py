"""The notebooks in examples/ run from their first cell to their last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))
NAMES = ("pretrain", "load_backbone", "features", "evaluate", "load_records", "open_dataset")


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    assert outputs and not [out for out in outputs if out.output_type == "error"]
    assert "| dino | cls |" in str(outputs)
    assert "\x1b" not in "".join(out.get("text", "") for out in outputs)  # plain lines


def test_the_first_notebook_shows_every_public_function() -> None:
    text = (EXAMPLES[0].parent / "first_steps.ipynb").read_text()
    assert not [name for name in NAMES if f"sslbench.{name}(" not in text]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
