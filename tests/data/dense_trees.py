"""Small annotated trees to be damaged: copies of the embedded scenes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sslbench.data import dense
from sslbench.data.dense import open_dense
from sslbench.data.scenes import ScenesConfig, generate
from sslbench.errors import UserError
from sslbench.storage.home import home

SMALL = ScenesConfig(train=6, validation=2, test=3)
TRAIN = "annotations/instances_train2017.json"
TEST = "annotations/instances_test2017.json"
FIRST = "train2017/000000000001.jpg"


def copy_of(kind: str, target: Path) -> Path:
    """A tree of its own; the scenes are drawn once below the tests' SSLBENCH_HOME."""
    return Path(shutil.copytree(generate(home() / "small-scenes", SMALL) / kind, target))


def rewrite(root: Path, change: Callable[[Any], Any], name: str = TRAIN) -> None:
    """Applies `change`, in place or by what it returns, to an annotation file."""
    content = json.loads((root / name).read_text())
    (root / name).write_text(json.dumps(change(content) or content))


def put(table: str, index: int, **values: Any) -> Callable[[Any], None]:
    """A change for `rewrite`: values of one entry."""
    return lambda content: content[table][index].update(values)


def refused(kind: str, root: Path, match: str, split: str = "test") -> None:
    """The tree is refused with one sentence that shows what a tree looks like."""
    with pytest.raises(UserError, match=match) as error:
        open_dense(kind, root, split)
    sentence = str(error.value)
    assert getattr(dense, kind).TREE in sentence and sentence.endswith(".")
    assert "\n" not in sentence and str(root) in sentence
