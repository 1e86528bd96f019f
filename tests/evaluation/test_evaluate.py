"""What `evaluate` takes when it is not told, and what it records."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sslbench.benchmark import Benchmark
from sslbench.benchmarks.knn import KNN
from sslbench.benchmarks.linear import Linear, LinearProtocol, Probe
from sslbench.checkpoints.classifier import RELEASED
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from sslbench.evaluation import evaluate, loading, opening
from sslbench.reporting import rendering
from sslbench.reporting.table import build
from sslbench.storage import layout
from tests.evaluation.fakes import Boxes, dense
from tests.training import small


def test_every_model_is_judged_against_its_floors(dino_run) -> None:
    models = loading.with_floors([load_backbone(dino_run)] * 2)
    sources = [model.card.source for model in models]
    assert sources == ["pixels:32", "random-init:vit_nano/8@32?seed=0"] + [str(dino_run)] * 2
    again = loading.with_floors([load_backbone("pixels:32"), load_backbone(dino_run)])
    assert [model.card.source for model in again].count("pixels:32") == 1


def test_an_evaluation_is_recorded_once(tmp_path, dino_run, labelled) -> None:
    def run():
        quiet = Console(quiet=True)
        given = ([str(dino_run)], ["knn"], {"images": str(labelled)}, "test", tmp_path)
        return evaluate.evaluate(*given, False, quiet)

    results = run()
    assert {r.model.method for r in results} == {"pixels", "random-init", "dino"}
    assert all(r.n == 10 for r in results)
    lines = (tmp_path / rendering.RECORDS).read_text()
    assert run() == results
    assert (tmp_path / rendering.RECORDS).read_text() == lines
    markdown = rendering.write_tables(tmp_path)
    assert (tmp_path / "table.md").read_text() == markdown
    assert rendering.table(tmp_path, "frozen", "md") == markdown


@pytest.fixture
def classifier(tmp_path) -> Path:
    """A classifier of two classes on four [CLS] tokens, as `dino/eval_linear.py` saves it."""
    tensors = {"module.linear.weight": torch.zeros(2, 512), "module.linear.bias": torch.eye(2)[0]}
    torch.save({"epoch": 100, "state_dict": tensors, "best_acc": 50.0}, tmp_path / "linear.pth")
    return tmp_path / "linear.pth"


def test_a_released_classifier_is_judged_though_its_model_was_before(
    tmp_path, dino_run, labelled, classifier
) -> None:
    benchmark = Linear(LinearProtocol(Probe(epochs=1)))
    given = ([str(dino_run)], [benchmark], {"images": str(labelled)}, "test", tmp_path, False)
    before = evaluate.evaluate(*given, Console(quiet=True))
    assert evaluate.released(before) == [
        "the classifier was not used: no benchmark that ran reads one"
    ]
    results = evaluate.evaluate(*given, Console(quiet=True), classifier=classifier)
    assert [r for r in results if r in before] == before
    (found,) = [r for r in results if r not in before]
    assert (found.model.method, found.setting, found.value) == ("dino", RELEASED, 50.0)
    assert evaluate.released(results) == ["released classifier: top1 50.00"]


def test_a_classifier_belongs_to_one_model(dino_run, classifier) -> None:
    with pytest.raises(UserError, match="belongs to one model, not to 2; name that one"):
        loading.load_models([str(dino_run)] * 2, classifier)


@pytest.fixture
def scenes(monkeypatch) -> list[tuple[str, str, str]]:
    """What dense data is opened, instead of opening it."""
    asked = []

    def opened(kind, source, split):
        asked.append((kind, source, split))
        return dense(kind, split=split)

    monkeypatch.setattr(opening, "open_dense", opened)
    return asked


@pytest.mark.parametrize(
    ("kinds", "given", "expected"),
    [
        ({"coco", "ade20k"}, {"images": "shapes"}, {"coco": "shapes", "ade20k": "shapes"}),
        ({"coco", "ade20k"}, {}, {"coco": "shapes", "ade20k": "shapes"}),  # of random weights
        ({"coco"}, {"images": "shapes", "coco": "my/coco"}, {"coco": "my/coco"}),
        ({"coco", "ade20k"}, {"images": "my/images", "coco": "shapes"}, {"coco": "shapes"}),
        ({"coco", "other"}, {"images": "my/images"}, {}),
        ({"other"}, {"images": "shapes", "coco": "my/coco"}, {}),
    ],
)
def test_scenes_go_with_shapes_and_folders_are_named(scenes, kinds, given, expected) -> None:
    found = opening.open_data(kinds, given, ["random-init:vit_nano/8@32"], "validation")
    assert sorted(scenes) == sorted((k, source, "validation") for k, source in expected.items())
    assert {kind: data.kind for kind, data in found.items()} == {k: k for k in expected}


def test_scenes_go_with_models_of_shapes(scenes, monkeypatch) -> None:
    trained_on = {"a": "shapes", "b": "my/images"}
    monkeypatch.setattr(opening, "pretraining_data", lambda sources: trained_on[sources[0]])
    assert set(opening.open_data({"coco"}, {}, ["a"], "test")) == {"coco"}
    assert set(opening.open_data({"coco"}, {}, ["b"], "test")) == set()


def test_images_and_scenes_are_judged_into_one_table(scenes, tmp_path, dino_run, labelled) -> None:
    screen = io.StringIO()
    data = {"images": str(labelled), "coco": "my/coco"}
    folders = []

    class Kept(Boxes):
        def work(self, context):
            folders.append(context.work_dir)

    given = ([str(dino_run)], [KNN(), Kept()], data, "test", tmp_path, False)
    results = evaluate.evaluate(*given, Console(file=screen), 2, tmp_path / "work")
    assert {(r.benchmark, r.dataset) for r in results} == {
        ("knn", labelled.name),
        ("boxes", "scenes-coco"),
    }
    assert {r.model.method for r in results} == {"pixels", "random-init", "dino", "all-background"}
    (section,) = build(results, "all").sections
    assert len(section.sources) == 2
    assert {folder.parent for folder in folders} == {tmp_path / "work"}
    assert all(folder.is_absolute() for folder in folders)
    assert "boxes on dino ViT-Nano/8 seed 0: AP^b 31.2 [" in screen.getvalue()


def test_what_is_not_installed_costs_no_opening_of_data(scenes, tmp_path, dino_run, labelled):
    class Uninstalled(Boxes):
        @classmethod
        def diagnosis(cls):
            return {"boxlib": (False, "missing")}

    screen = io.StringIO()
    data = {"images": str(labelled), "coco": "my/coco"}
    given = ([str(dino_run)], [KNN(), Uninstalled()], data, "test", tmp_path, False)
    results = evaluate.evaluate(*given, Console(file=screen, width=20))
    assert {r.benchmark for r in results} == {"knn"}
    assert "left out: boxes: boxlib: missing." in screen.getvalue().splitlines()
    assert scenes == []


def test_runs_of_different_data_do_not_say_what_to_evaluate_on(
    tmp_path, dino_run, labelled, images
) -> None:
    """T13: an error that names both, where the embedded set was taken silently."""
    alone = small.train(small.recipe("dino", images, train={"epochs": 1}), tmp_path / "alone")
    both = [str(dino_run), str(alone)]
    with pytest.raises(UserError, match="trained on different data") as caught:
        opening.open_data({"images"}, {}, both, "test")
    assert f"{labelled} and {images}" in str(caught.value) and "--data" in str(caught.value)
    assert opening.pretraining_data([str(dino_run), "random-init:vit_nano/8@32"]) == str(labelled)
    for floor in ("random-init:vit_nano/8@32?seed=1", "x=pixels:32"):
        assert opening.pretraining_data([floor]) == opening.EMBEDDED
    moved = shutil.copytree(labelled, tmp_path / "moved")
    again = small.train(small.recipe("dino", moved, train={"epochs": 1}), tmp_path / "again")
    assert opening.pretraining_data([str(dino_run), str(again)]) == str(labelled)  # equal content
    queried = [f"{dino_run}?arch=ViT-Nano/8", f"mine={alone}?arch=ViT-Nano/8"]
    with pytest.raises(UserError, match="trained on different data"):
        opening.pretraining_data(queried)
    shutil.rmtree(moved)
    assert opening.pretraining_data([str(again), str(dino_run)]) == str(labelled)
    with pytest.raises(UserError, match=r"trained on '.*moved', which is not there; .*--data"):
        opening.pretraining_data([str(again)])


@pytest.mark.parametrize("word", ["val", "valid"])
def test_val_is_the_validation_split_of_every_kind_of_data(scenes, labelled, word) -> None:
    given = {"images": str(labelled), "coco": "my/coco", "ade20k": "my/ade20k"}
    found = opening.open_data(given, given, [], word)
    assert {split for _, _, split in scenes} == {"validation"} == {found["images"].split}
    assert found["images"].test.split == "validation"
    with pytest.raises(UserError, match="Unknown split 'dev': choose one of these"):
        opening.open_data(given, given, [], "dev")


def test_splits_are_called_by_the_folder_or_as_asked(labelled) -> None:
    assert opening.open_splits(str(labelled), "test").name == labelled.name
    assert opening.open_splits(f"{labelled}/", "test", "my flowers").name == "my flowers"


def test_a_floor_has_every_feature_that_a_model_above_it_has(dino_run) -> None:
    wide = replace(load_backbone(dino_run), poolings=("cls", "mean without norm"))
    pixels, fresh, *_ = loading.with_floors([wide, load_backbone(dino_run)])
    assert pixels.poolings == ("cls",)
    assert fresh.poolings == ("cls", "mean", "mean without norm")


def test_a_run_that_has_not_ended_is_evaluated_by_its_newest_checkpoint(
    tmp_path, dino_run, caplog
) -> None:
    """P3: weights existed only after the last step."""
    run = shutil.copytree(dino_run, tmp_path / "run")
    (run / layout.WEIGHTS).unlink()
    shutil.move(run / layout.PREVIOUS, run / layout.STATE)
    models, broken = loading.load_models([f"mine={run}"], None)
    assert not broken and list(models) == [f"mine={run}/weights-step0000003.safetensors"]
    (model,) = models.values()
    assert (model.card.label, model.card.epochs) == ("mine", 0.6)
    assert "has not ended; its newest checkpoint is evaluated" in caplog.text


class Configured(Benchmark):
    """Takes any config; the protocol is its name."""

    name = "configured"

    def __init__(self, protocol: str = "") -> None:
        self.protocol = protocol

    def configured(self, config: str) -> Configured:
        return Configured(config)


def test_a_config_is_one_protocol_however_its_path_is_typed(tmp_path, monkeypatch) -> None:
    """./x.py and x.py were two protocols, and what one had measured was measured again."""
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.py").symlink_to("x.py")
    (tmp_path / "x.py").touch()
    typed = ["./x.py", "x.py", "in/../x.py", str(tmp_path / "x.py"), "link.py", "coco_vits16"]
    found = evaluate.configured([Configured()], typed)
    assert [one.protocol for one in found] == ["x.py", "coco_vits16"]
    monkeypatch.chdir(tmp_path / "in")
    (elsewhere,) = evaluate.configured([Configured()], ["../x.py"])
    assert elsewhere.protocol == str(tmp_path / "x.py")
