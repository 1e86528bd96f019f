"""Division of work among processes that share a folder (S6)."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from sslbench.evaluation import claims as module
from sslbench.evaluation.claims import FOLDER, STALE_SECONDS, Claims, Holder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / FOLDER


def leave(folder, holder, age=0.0):
    """A claim as a process leaves it that ended without a word."""
    folder.mkdir(exist_ok=True)
    path = folder / "job"
    path.write_text(json.dumps(asdict(holder)))
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def killed():
    """A process that was killed, as its claims tell."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    holder = replace(Holder.here(), pid=child.pid, started=module._started(child.pid))
    yield child, holder
    child.kill()
    child.wait()


def test_a_job_is_one_process_s(tmp_path, folder):
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        assert one.take("job", "knn on a") is None
        assert two.take("job") == Holder.here() and two.holder("job").what == "knn on a"
        assert two.take("other") is None
        one.release("job")
        assert one.holder("job") is None and two.take("job") is None
        one.release("job")  # not its own any more
        assert one.holder("job") == Holder.here()
    assert list(tmp_path.iterdir()) == []


def test_of_many_who_want_it_one_gets_it(tmp_path, killed):
    """A dead process's claim, taken over by eight at once."""
    child, holder = killed
    leave(tmp_path / FOLDER, holder)
    child.kill()
    child.wait()
    got, start = [], threading.Barrier(8)

    def want():
        claims = Claims(tmp_path)
        start.wait()
        got.append(claims.take("job"))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(None) == 1 and got.count(Holder.here()) == 7


def test_a_claim_ends_with_its_process(tmp_path, folder, killed):
    child, holder = killed
    leave(folder, holder, age=10 * STALE_SECONDS)  # it lives, however long it says nothing
    with Claims(tmp_path) as claims:
        assert claims.take("job") == holder
        child.kill()  # not waited for: a zombie is no living process either
        while module._started(child.pid) == holder.started:
            time.sleep(0.01)
        assert claims.take("job") is None


def test_a_number_that_another_process_has_now_is_no_claim(tmp_path, folder):
    leave(folder, replace(Holder.here(), started="1"))
    with Claims(tmp_path) as claims:
        assert claims.take("job") is None


@pytest.mark.parametrize(("age", "alive"), [(0.0, True), (STALE_SECONDS + 5, False)])
def test_another_machine_s_claim_ends_when_it_is_not_touched(tmp_path, folder, age, alive):
    far = Holder("far", "boot 7", os.getpid(), "1")
    leave(folder, far, age)
    with Claims(tmp_path) as claims:
        assert claims.take("job") == (far if alive else None)


def test_a_living_claim_is_touched(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    with Claims(tmp_path) as claims:
        claims.take("job")
        os.utime(folder / "job", (0, 0))
        end = time.monotonic() + 10
        while (folder / "job").stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.01)
        assert (folder / "job").stat().st_mtime > 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "x"}', "[" * 100_000])
def test_a_claim_that_was_cut_short_is_none(tmp_path, folder, content):
    folder.mkdir()
    (folder / "job").write_text(content)
    with Claims(tmp_path) as claims:
        assert claims.take("job") is None and claims.holder("job") == Holder.here()


def test_a_folder_that_cannot_be_written_to_holds_no_claims(tmp_path):
    (tmp_path / FOLDER).write_text("a file where the folder would be")
    with Claims(tmp_path) as claims:
        assert claims.take("job") is None
        claims.release("job")
