"""Which jobs a suite has, what they are called, and what is left out with a sentence."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sslbench.benchmark import Benchmark
from sslbench.benchmarks.knn import KNN
from sslbench.errors import UserError
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.jobs import LeftOut, plan, runnable
from sslbench.evaluation.provenance import Provenance
from tests.evaluation.fakes import Boxes, Recorder, dense, model, splits

CPU = torch.device("cpu")
DATA = {"images": splits(), "coco": dense("coco"), "ade20k": dense("ade20k")}


@dataclass(frozen=True)
class HeadProtocol:
    head: str = ""
    size: int = 0


class Masks(Benchmark):
    """Two heads on models with a mean pooling, none on others; the size is the data's."""

    name, version, kind, Protocol = "masks", "1", "ade20k", HeadProtocol

    def protocols(self, model, data):
        heads = ("large", "linear") if "mean" in model.poolings else ()
        return [replace(self.protocol, head=head, size=data.test.count) for head in heads]

    @property
    def variant(self):
        return f"{self.protocol.head} head"


class Uninstalled(Boxes):
    name = "uninstalled"

    @classmethod
    def diagnosis(cls):
        return {"torch": (True, "2"), "boxlib": (False, "missing; run `make setup`.")}


def jobs_of(models, benchmarks, watcher=None):
    contexts = [EvalContext(m, 0, CPU, Provenance.here(CPU)) for m in models]
    return plan(contexts, benchmarks, DATA, watcher or Recorder(), Path("/work")).jobs


def test_by_default_a_benchmark_has_one_protocol_per_pooling_or_one():
    jobs = jobs_of([model(poolings=("cls", "mean"))], [KNN(), Boxes()])
    assert [job.benchmark.protocol for job in jobs] == [
        replace(KNN().protocol, pool="cls"),
        replace(KNN().protocol, pool="mean"),
        Boxes.Protocol(),
    ]
    assert [job.data for job in jobs] == [DATA["images"], DATA["images"], DATA["coco"]]


def test_a_benchmark_chooses_its_protocols_by_model_and_data():
    jobs = jobs_of([model("aa", ("mean",)), model("bb")], [Masks()])
    assert [job.work.sha256 for job in jobs] == ["aa", "aa"]
    assert [job.benchmark.protocol for job in jobs] == [
        HeadProtocol("large", 7),
        HeadProtocol("linear", 7),
    ]
    assert [job.name for job in jobs] == [
        "masks large head on fake tiny",
        "masks linear head on fake tiny",
    ]


def test_models_of_several_seeds_are_told_apart():
    judged = model()
    judged.card = replace(judged.card, seed=3)
    (job,) = jobs_of([judged], [Boxes()])
    assert job.name == "boxes on fake tiny seed 3"


def test_every_job_has_a_folder_of_its_own_and_keeps_it():
    def folders(judged):
        return [job.context.work_dir for job in jobs_of(judged, [Masks(), Boxes()])]

    judged = [model("aa", ("mean",)), model("bb", ("mean",))]
    found = folders(judged)
    assert len(set(found)) == 6 and found == folders(judged)
    assert found[0].parent == Path("/work")
    assert found[0].name.startswith("masks-large-head-fake-tiny-")
    assert "/" not in folders([slashed(model())])[0].name


def slashed(judged):
    judged.card = replace(judged.card, arch="ViT-S/16")
    return judged


def test_progress_is_reported_under_the_job_s_name():
    watcher = Recorder()
    (job,) = jobs_of([model()], [Boxes()], watcher)
    job.context.progress(3, 10)
    assert watcher.seen == [("boxes on fake tiny", "", 3, 10)]


def test_the_main_values_of_the_model_sum_a_job_up():
    (job,) = jobs_of([model()], [Boxes()])
    assert job.summary(job.run()) == "AP^b 31.2"
    (first, *_) = [r for r in job.run() if r.metric == "AP^b"]
    assert job.summary([replace(first, value=0.0002)]) == "AP^b 0.0002"
    blank = replace(first, value=float("nan"), missing="no boxes")
    assert job.summary([blank]) == "AP^b none (no boxes)"


class Choosy(Boxes):
    """Does not fit one model, and is broken for another."""

    name = "choosy"

    def protocols(self, model, data):
        if model.card.sha256 == "bad":
            raise KeyError("arch")
        raise UserError("there is no config for tiny; name one with --config.")


def test_what_will_run_what_not_and_why_is_known_before():
    class More(Uninstalled):
        name = "more"

    asked = [KNN(), Uninstalled(), More(), Boxes(), Masks(), Choosy()]
    data = {k: v for k, v in DATA.items() if k != "coco"}
    models = [model("aa", label="a"), model("bb", ("mean",), label="b")]
    contexts = [EvalContext(m, 0, CPU, Provenance.here(CPU)) for m in models]
    planned = plan(contexts, asked, data, Recorder(), Path("/work"))
    assert planned.lines({planned.jobs[0].work}) == [
        "evaluations: 3 will run, 1 done already",
        "will run on b fake tiny: knn mean, masks large head, masks linear head",
        "done already on a fake tiny: knn cls",
        "left out: uninstalled, more: boxlib: missing; run `make setup`.",
        "left out: boxes, choosy: no coco data is given; name its folder with --coco DIR.",
        "left out: masks on a fake tiny: it does not apply to this model.",
    ]
    with_data = plan(contexts, [Choosy()], DATA, Recorder(), Path("/work"))
    assert with_data.reasons() == [
        "choosy on a fake tiny, choosy on b fake tiny: there is no config for tiny; name one with "
        "--config"
    ]
    assert not any(one.failed for one in with_data.left_out)


def test_what_breaks_while_it_is_planned_is_a_failure():
    contexts = [EvalContext(model("bad"), 0, CPU, Provenance.here(CPU))]
    (one,) = plan(contexts, [Choosy()], DATA, Recorder(), Path("/work")).left_out
    assert one == LeftOut("choosy on fake tiny", "KeyError: 'arch'", failed=True)


def test_each_benchmark_needs_data_of_its_kind():
    fit, left = runnable([Boxes(), KNN()], {"coco"})
    assert [b.name for b in fit] == ["boxes"]
    assert left == [LeftOut("knn", "no images data is given; name its folder with --data DIR")]
