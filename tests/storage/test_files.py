"""Whatever is written appears whole, readable by whom the umask says, and through nobody's link."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from sslbench.data.checks import write_json
from sslbench.data.generated import MANIFEST, identity, publish, read_manifest
from sslbench.errors import UserError
from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.features import Bank
from sslbench.plugins import METHODS
from sslbench.reporting.store import Store
from sslbench.result import Result
from sslbench.storage import checkpoint, files, layout, weights
from sslbench.storage.files import STALE_SECONDS, draft, remove_leftovers, replacing
from sslbench.storage.sealed import DamagedFile, load_checked_json
from sslbench.training import runs
from sslbench.training.log import LOG, keep_until

RESULTS = Path(__file__).parents[2] / "results"


@dataclass(frozen=True)
class Config:
    size: int = 1


def cache_features(folder):
    x = torch.ones(1, 2)
    FeatureCache(folder).put(
        {"weights": "a"}, Bank((x,), x.clone(), x.clone(), torch.ones(1), torch.ones(1))
    )


def draw_dataset(folder):
    def write(new):
        (new / "below").mkdir()
        (new / "below" / "1.png").write_bytes(b"x")
        return {}

    publish(folder / "toy", identity("toy", "1", Config()), write)


def add_record(folder):
    line = (RESULTS / "shapes" / "records.jsonl").read_text().splitlines()[0]
    Store(folder / "records.jsonl").append([Result.from_dict(json.loads(line))])


WRITERS = {
    "records": add_record,
    "weights": lambda f: weights.save_weights(f / "a", {"a": torch.ones(3)}, {}),
    "state": lambda f: checkpoint.save_state(f, {"step": 3}),
    "json": lambda f: files.save_json(f / "a", {"a": 1}),
    "annotations": lambda f: write_json(f / "a", {"a": 1}),
    "features": cache_features,
    "dataset": draw_dataset,
}


@pytest.fixture(params=[0o022, 0o077, 0o002, 0o027], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_the_umask_says_who_may_read(tmp_path, umask, write):
    """P11: weights and generated datasets were of mode 600 and 755, whatever the umask."""
    write(tmp_path)
    found = list(tmp_path.rglob("*"))
    assert found
    for path in found:
        whole = 0o777 if path.is_dir() else 0o666
        assert oct(path.stat().st_mode & 0o777) == oct(whole & ~umask), path


DRAFTED = {name: write for name, write in WRITERS.items() if name != "records"}  # appended to


@pytest.mark.parametrize("write", DRAFTED.values(), ids=DRAFTED)
def test_no_name_can_be_foreseen(tmp_path, monkeypatch, write):
    """S4: a link planted at the temporary name had our bytes written into another's file."""
    made = []
    mkdir = os.mkdir

    def spying(path, *args, **kwargs):
        made.append(os.path.basename(path))  # noqa: PTH119
        return mkdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", spying)
    for place in ("one", "two"):
        write(tmp_path / place)
    drafts = [name for name in made if name.endswith(".tmp") and name.startswith(".")]
    assert len(set(drafts)) == len(drafts) >= 2
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_waits_at_the_name_is_neither_followed_nor_filled(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    names = iter(["guessed", "guessed2"])
    monkeypatch.setattr("tempfile._RandomNameSequence.__next__", lambda _: next(names))
    monkeypatch.setattr("tempfile._name_sequence", None)
    (tmp_path / ".a-guessed.tmp").symlink_to(victim)
    with replacing(tmp_path / "a") as temporary:
        assert temporary.parent == tmp_path / ".a-guessed2.tmp"
        assert temporary.parent.stat().st_mode & 0o777 == 0o700
        temporary.write_text("mine")
    assert victim.read_text() == "theirs" and (tmp_path / "a").read_text() == "mine"


def test_a_link_in_the_place_itself_is_replaced(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "config.json"
    victim.write_text("theirs")
    path.symlink_to(victim)
    files.save_json(path, {"a": 1})
    assert victim.read_text() == "theirs" and not path.is_symlink()
    assert json.loads(path.read_text()) == {"a": 1}


def test_containers_of_one_process_number_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    both = threading.Barrier(2, timeout=20)
    failed = []

    def write(text):
        def fill(temporary):
            temporary.write_text(text * 1000)
            both.wait()

        try:
            files.write_atomically(tmp_path / "a", fill)
        except UserError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert (tmp_path / "a").read_text() in ("x" * 1000, "y" * 1000)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt(), ValueError("bad")])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    (tmp_path / "a").write_text("before")
    with pytest.raises(type(error)), replacing(tmp_path / "a", tmp_path / "b") as temporary:
        temporary.write_text("half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


KILLED = """
import os, sys
from pathlib import Path
from sslbench.storage.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    (temporary.parent / ".tmpABC").touch()  # as libraries do beside it
    os.kill(os.getpid(), 9)
"""


def test_what_a_kill_leaves_is_removed(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a"]).returncode == -9
    (left,) = tmp_path.iterdir()
    with draft(tmp_path / "a"):
        assert left.exists()  # another process may be at it
    os.utime(left, (0, left.stat().st_mtime - STALE_SECONDS - 5))
    with draft(tmp_path / "b"):
        assert left.exists()
    with draft(tmp_path / "a"):
        assert not left.exists()
    assert not list(tmp_path.iterdir())


def test_leftovers_of_our_own_folder_go_at_once(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").touch()
    run = tmp_path / "run"
    (run / ".a-x.tmp").mkdir(parents=True)
    (run / ".a-x.tmp" / "new.tmp").touch()
    (run / ".old.123.tmp").touch()
    (run / ".link.tmp").symlink_to(outside)
    (run / "notes.tmp").touch()
    remove_leftovers(run)
    assert [p.name for p in run.iterdir()] == ["notes.tmp"]
    assert (outside / "mine").exists()


def test_names_as_long_as_names_may_be(tmp_path):
    path = tmp_path / ("é" * 127)
    files.save_json(path, 1)
    assert json.loads(path.read_text()) == 1


def put_huge(path):
    """Two gigabytes that take no space on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, 2**31)


def put_pipe(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


READERS = {
    "recipe": ("config.json", lambda p: runs.resumed_recipe(p.parent, None, None, [], METHODS)),
    "records": ("records.jsonl", lambda p: Store(p).load()),
    "sealed": ("bank.json", load_checked_json),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("put", [put_huge, put_pipe])
@pytest.mark.parametrize(("name", "read"), READERS.values(), ids=READERS)
def test_no_text_is_read_before_its_size_is_known(tmp_path, name, read, put):
    """A hole of 40 GB in the place of a config.json took all memory, a pipe waited forever."""
    put(tmp_path / name)
    with pytest.raises((UserError, DamagedFile), match=r"larger than|not a regular file"):
        read(tmp_path / name)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("put", [put_huge, put_pipe])
def test_what_is_no_text_of_ours_is_passed_over(tmp_path, put):
    put(tmp_path / "run" / layout.CONFIG)
    (tmp_path / "run" / layout.WEIGHTS).touch()
    with pytest.raises(UserError, match="no finished run"):
        runs.newest_runs(tmp_path)
    put(tmp_path / MANIFEST)
    assert read_manifest(tmp_path) is None
    put(tmp_path / LOG)
    keep_until(tmp_path / LOG, 3)
    assert not (tmp_path / LOG).exists() and (tmp_path / f"{LOG}.damaged").exists()
