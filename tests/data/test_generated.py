"""A generated dataset appears whole or not at all."""

from dataclasses import dataclass

import pytest

from sslbench.data.generated import identity, publish, read_manifest
from sslbench.errors import UserError


@dataclass(frozen=True)
class Config:
    size: int = 1


WANTED = identity("toy", "1", Config())


def write(draft):
    (draft / "file").write_text("content")
    return {"sum": 7}


def test_what_is_written_appears_with_its_manifest(tmp_path):
    root = publish(tmp_path / "a" / "toy", WANTED, write)
    assert (root / "file").read_text() == "content"
    assert read_manifest(root) == {**WANTED, "sum": 7}
    assert [p.name for p in root.parent.iterdir()] == ["toy"]
    assert publish(root, WANTED, None) == root  # a second writer would fail


def test_the_copy_of_a_faster_process_stands(tmp_path):
    def overtaken(draft):
        publish(tmp_path / "toy", WANTED, lambda other: (other / "faster").touch() or {})
        return write(draft)

    root = publish(tmp_path / "toy", WANTED, overtaken)
    assert (root / "faster").exists() and not (root / "file").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_anything_else_in_its_place_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="not a `toy` dataset"):
        publish(tmp_path, WANTED, write)
    root = publish(tmp_path / "toy", WANTED, write)
    with pytest.raises(UserError, match="another config; remove"):
        publish(root, identity("toy", "1", Config(2)), write)
    (root / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is damaged; remove"):
        publish(root, WANTED, write)
