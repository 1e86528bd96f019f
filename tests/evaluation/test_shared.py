"""Several processes on one --out share the work; none is lost or done twice (S6)."""

import json
import threading
from dataclasses import asdict, replace

import pytest
import torch

from sslbench.benchmarks.clustering import Clustering
from sslbench.benchmarks.knn import KNN
from sslbench.evaluation import running
from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.claims import FOLDER, Claims, Holder
from sslbench.evaluation.jobs import Work
from sslbench.evaluation.suite import run_suite
from sslbench.reporting.store import Identity, Store
from tests.evaluation.fakes import Boxes, Recorder, dense, model, splits

CPU = torch.device("cpu")
DATA = {"images": splits(), "coco": dense()}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(running, "POLL_SECONDS", 0.02)


@pytest.fixture
def together(tmp_path):
    """Runs the same suite several times at once, each with a store and models of its own."""

    def run(names, benchmarks, processes=2, **more):
        found, models = [], [[model(name) for name in names] for _ in range(processes)]
        ready = threading.Barrier(processes)  # one that starts late repeats what it is forced to

        def one(own):
            store = Store(tmp_path / "r.jsonl")
            more_ = {"device": CPU, "work_dir": tmp_path / "work", **more}
            ready.wait(60)
            found.append(run_suite(own, DATA, benchmarks, store, **more_))

        threads = [threading.Thread(target=one, args=(own,)) for own in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return found, models

    return run


class Once(Boxes):
    """Takes long enough that all want it at the same time."""

    def work(self, context):
        context.cancelled.wait(0.05)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("at_once", [1, 2])
def test_processes_share_the_jobs_and_all_end_with_the_full_table(
    together, tmp_path, at_once, force
):
    class Counted(Once):
        pass

    names = ("aa", "bb", "cc", "dd", "ee")
    if force:
        together(names, [Counted(), KNN()], 1)
        Counted.calls.clear()
    (first, second), _ = together(names, [Counted(), KNN()], jobs_at_once=at_once, force=force)
    assert sorted(Counted.calls) == list(names)  # each once, whoever did it
    assert {Work.of(r) for r in first} == {Work.of(r) for r in second}
    lines = Store(tmp_path / "r.jsonl").load()
    assert len(lines) == (1 + force) * len(set(map(Identity.of, lines)))
    assert len(first) == len(second) == len(lines) / (1 + force)
    assert not (tmp_path / FOLDER).exists()


def test_features_are_computed_by_one_process(together, tmp_path):
    _, models = together(("aa",), [KNN(), Clustering()], cache_dir=tmp_path / "cache")
    assert sum(own[0].backbone.calls for own in models) == 2  # two parts of the data
    assert not list((tmp_path / "cache").glob(".*"))


def test_features_of_a_process_that_waits_come_from_the_cache(tmp_path):
    cache, waited = FeatureCache(tmp_path), []
    with Claims(tmp_path) as other:
        assert other.take(cache._path({"a": 1}).stem) is None

        def wait(holder):
            waited.append(str(holder))
            other.release(cache._path({"a": 1}).stem)

        with cache.exclusive({"a": 1}, wait):
            assert waited == [str(Holder.here())]


def job_key(tmp_path, benchmark):
    """What the only job of a benchmark is claimed by."""
    keys = []

    class Peek(Claims):
        def take(self, key, what=""):
            keys.append(key)
            return super().take(key, what)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sslbench.evaluation.suite.Claims", Peek)
        run_suite([model()], DATA, [benchmark], Store(tmp_path / "x" / "r.jsonl"), device=CPU)
    return keys[0]


def test_what_a_killed_process_had_claimed_is_run(tmp_path):
    key, store = job_key(tmp_path, Once()), Store(tmp_path / "r.jsonl")
    (tmp_path / FOLDER).mkdir()
    dead = replace(Holder.here(), started="1")
    (tmp_path / FOLDER / key).write_text(json.dumps(asdict(dead)))
    run_suite([model()], DATA, [Once()], store, device=CPU)
    assert len(store.load()) == 2 and not (tmp_path / FOLDER).exists()


def test_what_another_process_does_is_said_and_waited_for(tmp_path):
    """Killed after its records were written, before its claim ended: nothing is done twice."""

    class Counted(Once):
        pass

    key, watcher = job_key(tmp_path, Counted()), Recorder()
    records = Store(tmp_path / "x" / "r.jsonl").load()
    Counted.calls.clear()
    store = Store(tmp_path / "r.jsonl")
    other = Claims(tmp_path)
    other.take(key)

    def end(sentence):
        watcher.said.append(sentence)
        if sentence.startswith("waiting"):
            store.append(records)
            other.release(key)

    ears = Recorder()
    ears.say = end
    found = run_suite([model()], DATA, [Counted()], store, device=CPU, watcher=ears)
    assert found == records == store.load() and Counted.calls == []
    assert watcher.said[-1] == f"waiting for boxes on fake tiny ({Holder.here()})"
    assert ears.ended == {"boxes on fake tiny": "AP^b 31.2 (by another process)"}
