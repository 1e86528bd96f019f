"""A generated dataset appears whole or not at all."""

import json
import os
import threading
from dataclasses import dataclass
from unittest.mock import ANY

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
    assert read_manifest(root) == {**WANTED, "sum": 7, "files": ANY}
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
    (root / "mine.txt").touch()
    with pytest.raises(UserError, match=r"not a `toy` dataset, because it holds mine\.txt; remove"):
        publish(root, WANTED, write)
    assert (root / "mine.txt").exists() and (tmp_path / "notes.txt").exists()


def cut(path):
    path.write_text("con")


def swap(path):
    path.write_text("CONTENT")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["file", "manifest.json"])
@pytest.mark.parametrize("damage", [cut, swap, pipe, os.unlink], ids=lambda d: d.__name__)
def test_what_is_damaged_is_drawn_anew_and_said(tmp_path, caplog, name, damage):
    root = publish(tmp_path / "toy", WANTED, write)
    whole = read_manifest(root)
    damage(root / name)
    assert publish(root, WANTED, write) == root
    assert (root / "file").read_text() == "content" and read_manifest(root) == whole
    assert f"{root} is damaged, changed or of an older version" in caplog.text
    assert publish(root, WANTED, None) == root
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_several_processes_may_repair_at_once(tmp_path):
    root = publish(tmp_path / "toy", WANTED, write)
    (root / "file").unlink()
    together, failed = threading.Barrier(4, timeout=20), []

    def slow(draft):
        together.wait()
        return write(draft)

    def repair():
        try:
            publish(root, WANTED, slow)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=repair) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert publish(root, WANTED, None) == root and (root / "file").read_text() == "content"


def test_a_set_of_an_older_version_is_drawn_anew(tmp_path):
    root = publish(tmp_path / "toy", WANTED, write)
    old = {k: v for k, v in read_manifest(root).items() if k != "files"}
    (root / "manifest.json").write_text(json.dumps(old))
    publish(root, WANTED, write)
    assert "files" in read_manifest(root)
