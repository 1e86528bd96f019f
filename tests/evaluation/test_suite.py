from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint

import pytest
import torch

from sslbench import plugins
from sslbench.benchmark import Benchmark
from sslbench.benchmarks.clustering import Clustering
from sslbench.benchmarks.knn import KNN, KNNProtocol
from sslbench.benchmarks.linear import Linear, LinearProtocol, Probe
from sslbench.errors import RunError, UserError
from sslbench.evaluation.jobs import LeftOut
from sslbench.evaluation.suite import find_benchmarks, run_suite
from sslbench.reporting.store import Store
from tests.evaluation.fakes import Boxes, Images, Recorder, model, splits

CPU = torch.device("cpu")
QUICK = [KNN(), Linear(LinearProtocol(Probe(epochs=2))), Clustering()]


def run(models, store, benchmarks=QUICK, **more):
    return run_suite(models, {"images": splits()}, benchmarks, store, device=CPU, **more)


def timeless(results):
    return [replace(r, seconds=0.0, date="") for r in results]


@dataclass(frozen=True)
class NoProtocol:
    pass


class Failing(Benchmark):
    """Fails on one model; has no pooling of its own."""

    name, version, Protocol = "failing", "1", NoProtocol

    def run(self, backbone, data, context):
        if context.model.card.sha256 == "bad":
            raise ZeroDivisionError("oops")
        return [context.result(self, data, "", "top1", 50.0, 10)]


def test_every_model_pooling_and_benchmark_has_records(tmp_path):
    store = Store(tmp_path / "r.jsonl")
    results = run([model("aa", ("cls", "mean")), model("bb")], store)
    work = {(r.model.sha256, r.pool, r.benchmark) for r in results}
    names = ("knn", "linear", "clustering")
    assert work == {(*m, n) for m in (("aa", "cls"), ("aa", "mean"), ("bb", "cls")) for n in names}
    assert timeless(store.load()) == timeless(results)
    assert all(r.protocol["pool"] == r.pool for r in results)
    accuracy = next(r for r in results if (r.benchmark, r.setting) == ("knn", "k=20"))
    assert accuracy.value > 90
    assert accuracy.interval[0] < accuracy.value


def test_features_are_extracted_once_per_model_and_part(tmp_path):
    judged = model(poolings=("cls", "mean", "cls+mean"))
    run([judged], Store(tmp_path / "r.jsonl"))
    assert judged.backbone.calls == 2


def test_a_second_run_resumes_and_force_computes_again(tmp_path):
    store, first = Store(tmp_path / "r.jsonl"), model()
    half = run([first], store, QUICK[:1])
    watcher = Recorder()
    full = run([model()], store, watcher=watcher)
    assert full[: len(half)] == half  # dates included: not computed again
    assert len(store.load()) == len(full)
    untouched = model()
    assert timeless(run([untouched], store)) == timeless(full)
    assert untouched.backbone.calls == 0
    jobs = ("linear cls on fake tiny", "clustering cls on fake tiny")
    assert watcher.begun == [(jobs[0], 1, 2), (jobs[1], 2, 2)]
    assert watcher.seen[0] == (jobs[0], "features of colours train", 60, 60)
    assert watcher.ended[jobs[0]].startswith("best of 45 lr top1 ")
    forced = model()
    again = run([forced], store, force=True)
    assert forced.backbone.calls == 2
    assert timeless(again) == timeless(full)
    assert len(store.load()) == 2 * len(full)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"benchmarks": [KNN(KNNProtocol(temperature=0.1))]}, {}),
        ({}, {"seed": 1}),
        ({}, {"sha256": "bb"}),
        ({}, {"image_size": 4}),
    ],
)
def test_anything_that_moves_the_number_is_computed_anew(tmp_path, change, more):
    store = Store(tmp_path / "r.jsonl")
    run([model()], store, [KNN()])
    seed = more.pop("seed", 0)
    judged = model(**more)
    run([judged], store, change.get("benchmarks", [KNN()]), seed=seed)
    assert judged.backbone.calls == 2


def test_features_of_one_model_are_forgotten_before_the_next(tmp_path):
    banks = []

    class Peek(KNN):
        def run(self, backbone, data, context):
            found = super().run(backbone, data, context)
            banks.append(context._banks)
            return found

    run([model("aa"), model("bb")], Store(tmp_path / "r.jsonl"), [Peek()])
    assert banks == [{}, {}] and banks[0] is not banks[1]


def test_a_model_asked_for_twice_is_judged_once(tmp_path):
    results = run([model(), model()], Store(tmp_path / "r.jsonl"), [KNN()])
    assert len({(r.setting, r.metric) for r in results}) == len(results)


def test_a_failing_benchmark_costs_only_its_own_records(tmp_path):
    store = Store(tmp_path / "r.jsonl")
    with pytest.raises(RunError, match=r"1 of 4 .* failing on fake tiny: ZeroDivisionError: oops"):
        run([model("bad"), model("good")], store, [Failing(), KNN()])
    work = {(r.model.sha256, r.benchmark) for r in store.load()}
    assert work == {("bad", "knn"), ("good", "knn"), ("good", "failing")}


def test_suites_and_names_are_found_through_entry_points():
    frozen, broken = find_benchmarks("frozen")
    names = {b.name for b in frozen}
    assert {"clustering", "knn", "linear", "semi_supervised"} <= names and broken == []
    assert names <= {b.name for b in find_benchmarks("full")[0]}
    assert [b.name for b in find_benchmarks(["linear", "knn"])[0]] == ["linear", "knn"]
    with pytest.raises(UserError, match="did you mean 'frozen'"):
        find_benchmarks("frosen")
    with pytest.raises(UserError, match="unknown benchmark 'kn'"):
        find_benchmarks(["kn"])


@pytest.fixture
def broken_plugin(monkeypatch):
    """A benchmark is registered that cannot be imported."""
    available = plugins.available
    entry = EntryPoint("broken", "no.such.module:Broken", plugins.BENCHMARKS)
    monkeypatch.setattr(
        plugins,
        "available",
        lambda group: {**available(group), **({"broken": entry} if "bench" in group else {})},
    )


def test_a_plugin_that_cannot_be_loaded_costs_its_own_cells(tmp_path, broken_plugin):
    """E: `--suite` stopped there; by its name it is a failure, in a suite it is left out."""
    watcher, store = Recorder(), Store(tmp_path / "r.jsonl")
    fit, left = find_benchmarks("frozen")
    assert [b.name for b in fit] == ["clustering", "knn", "linear", "semi_supervised"]
    assert [(one.what, one.failed) for one in left] == [("broken", False)]
    with pytest.raises(RunError, match=r"1 of 2 evaluations failed.*broken: the benchmark 'broken"):
        run([model()], store, ["broken", "knn"], watcher=watcher)
    assert {r.benchmark for r in store.load()} == {"knn"}
    assert any(line.startswith("left out: broken: the benchmark") for line in watcher.said)


def test_nothing_to_run_is_wrong_use_and_writes_nothing(tmp_path):
    with pytest.raises(
        UserError, match=r"^there is nothing to evaluate: boxes: no coco data .*\.$"
    ):
        run([model()], Store(tmp_path / "deep" / "r.jsonl"), [Boxes()])
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_loaded_is_named_again_at_the_end(tmp_path):
    watcher, store = Recorder(), Store(tmp_path / "r.jsonl")
    gone = LeftOut("every evaluation of gone.pth", "gone.pth does not exist", failed=True)
    with pytest.raises(
        RunError, match=r"1 of 2 .*every evaluation of gone\.pth: gone\.pth does not"
    ):
        run([model()], store, [KNN()], watcher=watcher, left_out=[gone])
    assert {r.benchmark for r in store.load()} == {"knn"}
    assert "left out: every evaluation of gone.pth: gone.pth does not exist." in watcher.said


def test_what_breaks_for_all_jobs_of_a_model_is_tried_once(tmp_path):
    """Features of a broken set: each job says so, none reads it again."""
    data = {"images": replace(splits(), train=Images(60, 0, "train", broken=tuple(range(40))))}
    judged, store = model(), Store(tmp_path / "r.jsonl")
    with pytest.raises(RunError, match=r"2 of 2 .*knn cls .*60 images.*linear cls .*60"):
        run_suite([judged], data, QUICK[:2], store, device=CPU)
    assert judged.backbone.calls <= 1
