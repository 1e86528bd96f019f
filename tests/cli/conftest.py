"""Everything that a command line may name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sslbench.storage import layout
from tests.training import small


@pytest.fixture(scope="module")
def places(tmp_path_factory, images, labelled, tokenizer, dino_run) -> dict[str, Path]:
    """Everything a bad command line may name."""
    root = tmp_path_factory.mktemp("places")
    (root / "empty").mkdir()
    (root / "syntax.py").write_text("method = dict(\n")
    (root / "division.py").write_text("method = dict(name='dino')\nx = 1 / 0\n")
    (root / "flat.py").write_text("method = 'dino'\n")
    (root / "records").mkdir()
    (root / "records" / "records.jsonl").write_text('{"model": {"sha')
    shutil.copytree(dino_run, root / "cut")
    for state in (layout.STATE, layout.PREVIOUS):
        (root / "cut" / state).write_bytes(b"PK\3\4 and no more")
    shutil.copytree(root / "cut", root / "cut_run")
    (root / "cut_run" / layout.WEIGHTS).unlink()
    shutil.copytree(dino_run, root / "cut_weights")
    whole = (dino_run / layout.WEIGHTS).read_bytes()
    (root / "cut_weights" / layout.WEIGHTS).write_bytes(whole[:-10])
    return {
        "root": root,
        "images": images,
        "labelled": labelled,
        "tokenizer": tokenizer,
        "run": dino_run,
        "one": small.write_images(root / "one", 1),
        "config": small.write_config(root / "dino.py", "dino", images),
        "beit": small.write_config(root / "beit.py", "beit", images),
    }
