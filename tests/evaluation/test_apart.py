"""Benchmarks that work apart: in parallel, resumable, and ended with the suite."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sslbench.benchmarks.knn import KNN
from sslbench.errors import RunError, UserError
from sslbench.evaluation.suite import run_suite
from sslbench.reporting.store import Store
from tests.evaluation.fakes import Boxes, Recorder, dense, model, splits

CPU = torch.device("cpu")
DATA = {"images": splits(), "coco": dense()}
MODELS = ("aa", "bb", "cc", "dd")


@pytest.fixture
def run(tmp_path):
    def call(benchmark, at_once=2, models=MODELS, store=None, others=(), **more):
        store = store or Store(tmp_path / "r.jsonl")
        judged = [model(name) for name in models]
        more = {"device": CPU, "work_dir": tmp_path / "work", "jobs_at_once": at_once, **more}
        return run_suite(judged, DATA, [benchmark, *others], store, **more)

    return call


@pytest.fixture
def stored(tmp_path):
    return lambda: [(r.model.sha256, r.value) for r in Store(tmp_path / "r.jsonl").load()]


def waiting(context, seconds=20.0):
    """Does nothing until the suite is cancelled, as a benchmark with a child process does."""
    if not context.cancelled.wait(seconds):
        raise AssertionError("nobody cancelled this job")
    raise RunError("cancelled.")


@pytest.mark.parametrize("at_once", [1, 2])
def test_so_many_jobs_run_at_once(run, at_once):
    running, most = set(), []
    meet = threading.Barrier(at_once, timeout=20)

    class Together(Boxes):
        def work(self, context):
            running.add(context.model.card.sha256)
            meet.wait()
            most.append(len(running))
            meet.wait()
            running.discard(context.model.card.sha256)

    assert len(run(Together(), at_once)) == 5
    assert max(most) == at_once


def test_they_run_after_the_others_and_are_counted_with_them(run):
    watcher = Recorder()

    class Late(Boxes):
        pass

    run(Late(), 1, ["aa"], others=[KNN()], watcher=watcher)
    assert watcher.begun == [("knn cls on fake tiny", 1, 2), ("boxes on fake tiny", 2, 2)]
    assert watcher.ended["boxes on fake tiny"] == "AP^b 31.2"


def test_records_are_complete_and_appended_as_jobs_end(run, stored):
    class Slow(Boxes):
        """The first job ends when the record of the last is in the file."""

        def work(self, context):
            end = time.monotonic() + 20
            time.sleep(0.02)  # seconds are kept to two decimals
            if context.model.card.sha256 == "aa":
                while ("bb", 31.2) not in stored() and time.monotonic() < end:
                    time.sleep(0.01)

    results = run(Slow(), 2, ["aa", "bb"])
    assert stored() == [("bb", 31.2), ("nothing", 1.0), ("aa", 31.2)]
    assert [r.model.sha256 for r in results] == ["aa", "bb", "nothing"]
    first = results[0]
    assert (first.pool, first.split, first.n, first.protocol["size"]) == ("", "test", 7, 3)
    assert (first.dataset, first.dataset_fingerprint) == ("scenes-coco", "coco0")
    assert first.seconds > 0


def test_a_second_run_finds_the_stand_in_too(run, stored):
    class Once(Boxes):
        pass

    first = run(Once())
    assert sorted(Once.calls) == list(MODELS)
    assert run(Once()) == first
    assert len(Once.calls) == 4
    assert [r.model.method for r in run(Once(), models=["aa"])] == ["fake", "all-background"]
    assert len(run(Once(), force=True)) == 5
    assert len(Once.calls) == 8 and len(stored()) == 10


def test_force_empties_the_run_directory(run):
    class Keeping(Boxes):
        def work(self, context):
            context.work_dir.mkdir(parents=True)  # fails where there is one

    run(Keeping())
    run(Keeping(), force=True)
    assert len(Keeping.calls) == 8


def test_a_failing_job_is_named_and_the_others_end(run, stored):
    class Failing(Boxes):
        def work(self, context):
            if context.model.card.sha256 == "bb":
                raise ZeroDivisionError("oops")

    with pytest.raises(RunError, match=r"1 of 6 .* boxes on fake tiny: ZeroDivisionError: oops \("):
        run(Failing(), others=[KNN()], models=["aa", "bb", "cc"])
    assert {name for name, value in stored() if value == 31.2} == {"aa", "cc"}


@pytest.mark.parametrize("error", [UserError("a broken label."), RunError("the loss is nan.")])
def test_an_error_costs_one_job_in_one_sentence(run, stored, error):
    class Wrong(Boxes):
        def work(self, context):
            if context.model.card.sha256 == "aa":
                raise error

    with pytest.raises(RunError, match=rf"1 of 4 .*boxes on fake tiny: {str(error)[:-1]}\.$"):
        run(Wrong())
    assert {name for name, value in stored() if value == 31.2} == {"bb", "cc", "dd"}


def test_an_unexpected_error_leaves_its_traceback(run, tmp_path):
    class Wrong(Boxes):
        def work(self, context):
            if context.model.card.sha256 == "aa":
                raise KeyError("lr")

    with pytest.raises(
        RunError, match=r"boxes on fake tiny: KeyError: 'lr' \(see (.+)\)\.$"
    ) as told:
        run(Wrong(), models=["aa", "bb"])
    (place,) = re.findall(r"\(see (.+)\)", str(told.value))
    assert Path(place).is_relative_to(tmp_path / "work")
    assert "in work" in Path(place).read_text() and "KeyError: 'lr'" in Path(place).read_text()
    run(Boxes(), models=["aa", "bb"])  # the same jobs, which work now
    assert not Path(place).exists()


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C ends Python, also where the tests were started in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_what_ends_well_while_the_suite_is_ended_is_kept(run, stored):
    begun = threading.Barrier(2, timeout=20)

    class Interrupted(Boxes):
        def work(self, context):
            begun.wait()
            if context.model.card.sha256 == "aa":
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                waiting(context)
            context.cancelled.wait(20)

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted())
    assert sorted(Interrupted.calls) == ["aa", "bb"]  # the others never began
    assert stored() == [("bb", 31.2), ("nothing", 1.0)]


@pytest.mark.usefixtures("heeded")
def test_ctrl_c_leaves_no_process_behind(run):
    children = []

    class Parent(Boxes):
        def work(self, context):
            child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
            children.append(child)
            if len(children) == 2:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            try:
                waiting(context)
            finally:
                child.terminate()
                child.wait()

    with pytest.raises(KeyboardInterrupt):
        run(Parent())
    assert len(children) == 2
    # Ctrl-C while a thread starts: the pool does not know it yet and does not wait for its child
    assert [child.wait(20) for child in children] == [-signal.SIGTERM] * 2
