"""How long a suite will take: of which sources, and that nothing is measured for little work."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from sslbench.benchmark import Benchmark, Cost, FeatureSpec
from sslbench.benchmarks.clustering import Clustering
from sslbench.benchmarks.knn import KNN, KNNProtocol
from sslbench.errors import UserError
from sslbench.evaluation import estimate as module
from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.estimate import Estimate, estimate
from sslbench.evaluation.jobs import plan
from sslbench.evaluation.provenance import Provenance
from sslbench.evaluation.suite import run_suite
from sslbench.reporting.store import Store
from tests.evaluation.fakes import Boxes, Images, Recorder, dense, model, splits

CPU = torch.device("cpu")
DATA = {"images": splits(), "coco": dense("coco")}
LONG = 1e12  # FLOPs that are worth a measurement
SPEEDS = {"forward_seconds": 0.5, "reading_seconds": 0.25, "flop_seconds": 1e-12}


@dataclass(frozen=True)
class PoolProtocol:
    pool: str = "cls"


class Long(Benchmark):
    """Reads both parts' features and works for a second."""

    name, version, Protocol = "long", "1", PoolProtocol

    def cost(self, model, data):
        return Cost.reading(FeatureSpec(), flops=LONG)

    def run(self, backbone, data, context):
        return [context.result(self, data, "", "top1", 50.0, 10)]


class Tuned(Long):
    """Trains a hundred images, passes ten forward and starts a process."""

    name, kind, apart = "tuned", "coco", True

    def cost(self, model, data):
        return Cost(forward=10, trained=100, flops=LONG, seconds=7)


def jobs_of(*benchmarks, models=None, **more):
    models = models or [model()]
    contexts = [EvalContext(m, 0, CPU, Provenance.here(CPU), **more) for m in models]
    return plan(contexts, benchmarks, DATA, Recorder(), Path("work")).jobs


def records_of(jobs, seconds, sha256="old", **more):
    """The records that an earlier run of other weights has left."""
    found = [record for job in jobs for record in job.run()]
    card = found[0].model
    return [replace(r, model=replace(card, sha256=sha256), seconds=seconds, **more) for r in found]


@pytest.fixture
def measured(monkeypatch):
    """The measurements that were taken, instead of taking them."""
    taken = []
    for name, seconds in SPEEDS.items():
        monkeypatch.setattr(
            module, name, lambda *_, name=name, seconds=seconds: taken.append(name) or seconds
        )
    return taken


def test_little_work_is_not_measured(measured):
    found = estimate(jobs_of(KNN(), Clustering()), [], 1)
    assert measured == [] and found.line() == "a few seconds in all"


def test_long_work_is_measured_and_features_count_once(measured):
    found = estimate(jobs_of(Long(), KNN(), Tuned()), [], 2)
    assert found.seconds["features"] == 90 * (0.5 + 0.25)
    assert found.seconds["long"] == pytest.approx(1)
    assert found.seconds["tuned"] == pytest.approx(310 * 0.5 + 110 * 0.25 + 1 + 7)
    assert found.line() == ("roughly 4 min in all: features 1 min, long 1 s, knn 1 s, tuned 3 min")


def test_both_forms_of_the_mean_patch_are_one_pass(measured):
    judged = model(poolings=("cls", "mean", "mean without norm"))
    found = estimate(jobs_of(Long(), KNN(), models=[judged]), [], 1)
    assert found.seconds["features"] == 90 * 0.75
    raw = KNN(KNNProtocol(norm=False))  # whose [CLS] is before the norm
    found = estimate(jobs_of(Long(), raw, models=[judged]), [], 1)
    assert found.seconds["features"] == 2 * 90 * 0.75


def test_one_architecture_is_measured_once(measured):
    estimate(jobs_of(Long(), models=[model("aa"), model("bb")]), [], 1)
    assert sorted(measured) == sorted(SPEEDS)
    estimate(jobs_of(Long(), models=[model("aa"), model("bb", image_size=4)]), [], 1)
    assert measured.count("forward_seconds") == 3 and measured.count("flop_seconds") == 2


def test_cached_features_take_no_time(measured, tmp_path):
    judged, cache = model(), FeatureCache(tmp_path)
    EvalContext(judged, 0, CPU, Provenance.here(CPU), cache).features(
        judged.backbone, DATA["images"], "train", FeatureSpec()
    )
    found = estimate(jobs_of(Long(), models=[judged], cache=cache), [], 1)
    assert found.seconds["features"] == 30 * 0.75
    fresh = estimate(jobs_of(Long(), models=[judged], cache=cache, fresh=True), [], 1)
    assert fresh.seconds["features"] == 90 * 0.75


def test_earlier_runs_on_this_hardware_know_better(measured):
    jobs = jobs_of(Long(), Tuned())
    earlier = records_of(jobs[:1], 100.0) + records_of(jobs[1:], 60.0)
    found = estimate(jobs, earlier, 2)
    assert measured == [] and dict(found.seconds) == {"long": 100.0, "tuned": 60.0}
    assert found.line() == (
        "roughly 3 min in all: long 2 min (as in earlier runs), tuned 1 min (as in earlier runs)"
    )
    for change in ({"hardware": "another"}, {"dataset_fingerprint": "other"}, {"seconds": 0.0}):
        other = [replace(r, **change) for r in earlier]
        assert not estimate(jobs, other, 2).recorded
    slower = records_of(jobs[:1], 400.0, "a") + records_of(jobs[:1], 300.0, "b")
    assert estimate(jobs[:1], earlier[:1] + slower, 1).seconds["long"] == 300.0


def test_features_of_earlier_runs_count_unless_they_came_from_the_cache(measured):
    jobs = jobs_of(Long())
    cached = records_of(jobs, 100.0, features={"train": {"seconds": 5}})
    assert set(estimate(jobs, cached, 1).seconds) == {"long", "features"}
    assert set(estimate(jobs, records_of(jobs, 100.0), 1).seconds) == {"long"}


def test_jobs_that_ran_beside_each_other_do_so_again(measured):
    jobs = jobs_of(Tuned(), models=[model("aa"), model("bb"), model("cc")])
    earlier = records_of(jobs[:1], 60.0)
    assert estimate(jobs, earlier, 2).seconds["tuned"] == 90.0
    assert estimate(jobs[:1], earlier, 2).seconds["tuned"] == 60.0


def test_what_is_not_known_is_said_to_be_so(measured):
    assert estimate(jobs_of(Boxes()), [], 1).line() == "the time of boxes is unknown"
    line = estimate(jobs_of(Long(), Boxes()), [], 1).line()
    assert line == ("roughly 1 min in all: features 1 min, long 1 s; the time of boxes is unknown")


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: 12.5, "TypeError: 12.5 is no Cost"),
        (lambda: Cost(flops=float("nan")), "a number that is negative or not finite"),
        (lambda: Cost(forward=-1), "a number that is negative or not finite"),
        (lambda: Cost(frozenset({("all", True)})), "names parts that are none of train, test"),
    ],
)
def test_a_benchmark_whose_cost_is_wrong_is_evaluated_all_the_same(cost, message, caplog):
    class Wrong(Long):
        name = "wrong"

        def cost(self, model, data):
            return cost()

    assert estimate(jobs_of(Wrong()), [], 1).line() == "the time of wrong is unknown"
    assert message in caplog.text


def test_a_model_that_cannot_be_measured_costs_its_own_time_alone(measured, monkeypatch, caplog):
    def fails(judged, device):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(module, "forward_seconds", fails)
    found = estimate(jobs_of(Long()), [], 1)
    assert found.line() == "the time of long, features is unknown"
    assert "out of memory" in caplog.text


def test_speeds_are_measured_in_few_passes():
    judged = model()
    assert 0 < module.forward_seconds(judged, CPU) < 1
    assert 2 <= judged.backbone.calls <= 8  # 1, 4, 16 and 64 images, twice each
    assert 0 < module.flop_seconds(CPU) < 1e-6


def test_a_slow_first_pass_is_not_the_speed_and_a_slow_model_is_passed_twice(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])

    def passes(first, others):
        durations = iter([first])

        def pool(backbone, images, _):
            sizes.append(len(images))
            clock[0] += next(durations, others * len(images))

        monkeypatch.setattr(module, "pool_tokens", pool)
        sizes = []
        return module.forward_seconds(model(), CPU), sizes

    assert passes(0.9, 0.001) == (pytest.approx(0.001), [1, 1, 4, 4, 16, 16, 64, 64])
    assert passes(9.0, 2.0) == (pytest.approx(2.0), [1, 1])


def test_reading_is_measured_on_a_few_images():
    data = splits()
    read = []
    data.train.image = lambda index: read.append(index) or Images.image(data.train, index)
    data.train.broken = (1,)
    assert 0 < module.reading_seconds(model(), data) < 1
    assert read == list(range(module.SAMPLE))
    assert module.reading_seconds(model(), DATA["coco"]) == 0


def test_the_suite_says_the_time_of_what_will_run_and_nothing_else(measured, tmp_path):
    def run(benchmarks, watcher):
        data = {"images": splits()}
        run_suite([model()], data, benchmarks, Store(tmp_path / "r.jsonl"), watcher=watcher)
        return [line for line in watcher.said if " in all" in line]

    assert run([Long()], Recorder()) == ["roughly 1 min in all: features 1 min, long 1 s"]
    assert run([Long()], Recorder()) == []
    measured.clear()
    with pytest.raises(UserError, match="nothing to evaluate"):
        run([Tuned()], Recorder())
    with pytest.raises(UserError, match="unknown suite"):
        run("frozzen", Recorder())
    assert measured == []


def test_hours_are_said_as_hours():
    found = Estimate()
    found.seconds |= {"knn": 20.0, "features": 7300.0}
    assert found.line() == "roughly 2 h 02 min in all: features 2 h 02 min, knn 20 s"
