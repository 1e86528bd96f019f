import os
import time

import pytest

from sslbench.data import contents, remembered
from sslbench.data.contents import content_hashes


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three old files of one size, and a fresh memory."""
    monkeypatch.setenv("SSLBENCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (folder / name).write_bytes(content)
    monkeypatch.setattr(remembered, "RACY_SECONDS", 0.0)
    time.sleep(0.02)
    return folder


@pytest.fixture
def reads(monkeypatch):
    """The paths that are read from the disk."""
    seen = []
    hash_file = contents._hash

    def spy(path, full):
        seen.append(os.path.basename(path))  # noqa: PTH119
        return hash_file(path, full)

    monkeypatch.setattr(contents, "_hash", spy)
    return seen


def test_equal_contents_have_equal_hashes_wherever_they_lie(files, tmp_path):
    first = content_hashes(files, ["a", "b", "c"])
    assert first[0] == first[2] != first[1]
    other = tmp_path / "other"
    files.rename(other)
    assert content_hashes(other, ["b", "a"]) == [first[1], first[0]]
    assert content_hashes(other, ["gone"]) == ["missing"]


def test_a_file_is_read_once(files, reads):
    first = content_hashes(files, ["a", "b"])
    assert content_hashes(files, ["b", "a", "c"]) == [first[1], first[0], first[0]]
    assert sorted(reads) == ["a", "b", "c"]


def test_a_change_is_seen_though_size_and_mtime_stay(files, reads):
    """Rewritten in place, and another file renamed onto the path: both with the old mtime."""
    names, old = ["a", "b"], content_hashes(files, ["a", "b"])
    stamp = (files / "a").stat().st_mtime_ns
    (files / "a").write_bytes(b"six")
    os.utime(files / "a", ns=(stamp, stamp))
    changed = content_hashes(files, names)
    assert changed[0] != old[0] and changed[1] == old[1]
    os.utime(files / "c", ns=(stamp, stamp))
    (files / "c").replace(files / "a")
    assert content_hashes(files, names) == old


def test_what_was_written_just_now_is_not_remembered(files, reads, monkeypatch):
    """A second write within the clock's grain would look like none."""
    monkeypatch.setattr(remembered, "RACY_SECONDS", 60.0)
    content_hashes(files, ["a"])
    content_hashes(files, ["a"])
    assert reads == ["a", "a"]


def test_a_large_set_is_sampled_at_both_ends_and_in_the_middle(files, monkeypatch):
    monkeypatch.setattr(contents, "FULL_LIMIT", 10)
    monkeypatch.setattr(contents, "SAMPLE", 4)
    found = set()
    for place in (0, 3, 50, 97, 99):
        content = bytearray(100)
        content[place] = 1
        (files / "a").write_bytes(content)
        found.add(content_hashes(files, ["a"])[0])
    assert len(found) == 5
    (files / "a").write_bytes(bytes(101))
    assert content_hashes(files, ["a"])[0] not in found


def test_without_a_place_to_remember_it_only_takes_longer(files, reads, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    known = content_hashes(files, ["a"])
    monkeypatch.setenv("SSLBENCH_HOME", str(tmp_path / "file"))
    assert content_hashes(files, ["a"]) == known
    monkeypatch.setenv("SSLBENCH_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "remembered.sqlite").write_bytes(b"no database" * 1000)
    assert content_hashes(files, ["a"]) == known
    assert reads == ["a", "a", "a"]


def test_each_file_that_is_remembered_is_looked_at_once(files, monkeypatch):
    content_hashes(files, ["a", "b", "c"])
    paths, looked_at, look = [str(files / name) for name in "abc"], [], os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **more: looked_at.append(path) or look(path, **more)
    )
    content_hashes(files, ["a", "b", "c"])
    assert [path for path in looked_at if path in paths] == paths


@pytest.mark.parametrize("count", [0, 1, 31, 33, 700])
def test_results_come_in_the_order_of_the_files(count):
    paths = [str(k) for k in range(count)]
    assert list(remembered._compute(paths, lambda path: path * 2, "")) == [p * 2 for p in paths]
