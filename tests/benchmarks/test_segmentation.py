from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslbench.benchmarks import segmentation
from sslbench.benchmarks.dense import install, installation, job
from sslbench.benchmarks.dense.prepare import config_hash, read_config
from sslbench.benchmarks.segmentation import (
    FLOOR,
    Segmentation,
    SegmentationProtocol,
    background_miou,
)
from sslbench.checkpoints.load import load_backbone
from sslbench.data.dense import DenseSplit, open_scenes
from sslbench.data.scenes import ScenesConfig
from sslbench.errors import UserError
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.jobs import runnable
from sslbench.evaluation.provenance import Provenance
from tests.benchmarks.dense import controls
from tests.benchmarks.fakes import figures
from tests.evaluation.fakes import dense

CPU = torch.device("cpu")
FOUND = {"aAcc": 86.94, "mIoU": 13.97, "mAcc": 20.83, "step": 250.0}


@pytest.fixture(scope="module")
def nano():
    return load_backbone(controls.NANO)


@pytest.fixture
def scenes():
    """Of 12 labelled pixels 6 are of class 1, 4 of class 3 and 2 of class 4."""
    test = DenseSplit(Path("images"), Path("pairs.json"), 2, pixels=(6, 0, 4, 2, 0))
    names = tuple("abcde")
    return dense("ade20k", name="shapes-ade20k", classes=names, test=test, embedded=True)


def of_arch(model, arch):
    return replace(model, card=replace(model.card, arch=arch))


def records(monkeypatch, model, data, head):
    given = []
    monkeypatch.setattr(job, "train_and_test", lambda config, _: given.append(config) or FOUND)
    context = EvalContext(model, 3, CPU, Provenance.here(CPU))
    (protocol,) = Segmentation(SegmentationProtocol(head)).protocols(model, data)
    return Segmentation(protocol).run(model.backbone, data, context), given[0]


@pytest.mark.parametrize(("head", "setting"), [("upernet", "UPerNet"), ("linear", "linear")])
def test_the_head_is_the_setting_of_the_records(monkeypatch, nano, scenes, head, setting):
    found, config = records(monkeypatch, nano, scenes, head)
    own = [r for r in found if r.model == nano.card]
    assert figures(own) == {(setting, m): FOUND[m] for m in ("mIoU", "mAcc", "aAcc")}
    assert {(r.n, r.seed, r.protocol["head"]) for r in own} == {(2, 3, head)}
    assert (setting, "mIoU") in Segmentation.main
    assert found[0].versions["onedl-mmsegmentation"]
    assert config.model.decode_head.num_classes == 5
    assert config.test_dataloader.dataset.ann_file == str(scenes.test.annotations)


def test_the_floor_is_recorded_for_no_model(monkeypatch, nano, scenes):
    found, _ = records(monkeypatch, nano, scenes, "linear")
    floors = [r for r in found if r.model != nano.card]
    assert [(r.model, r.setting, r.metric) for r in floors] == [(FLOOR, "linear", "mIoU")]
    assert floors[0].value == pytest.approx(100 * (6 / 12) / 3)
    assert not floors[0].model.source  # which makes it a stand-in, see Context.result


def test_the_floor_counts_labelled_pixels_and_classes_that_occur():
    assert background_miou((6, 0, 4, 2, 0)) == pytest.approx(100 * (6 / 12) / 3)


def test_the_floor_is_known_before_anything_is_trained(monkeypatch, nano, scenes):
    order = []
    floor = segmentation.background_miou
    monkeypatch.setattr(
        segmentation, "background_miou", lambda pixels: order.append("floor") or floor(pixels)
    )
    monkeypatch.setattr(job, "train_and_test", lambda *_: order.append("training") or FOUND)
    context = EvalContext(nano, 3, CPU, Provenance.here(CPU))
    (protocol,) = Segmentation(SegmentationProtocol("linear")).protocols(nano, scenes)
    Segmentation(protocol).run(nano.backbone, scenes, context)
    assert order == ["floor", "training"]


def test_the_floor_is_the_metric_of_constant_predictions(tmp_path):
    install()
    from mmseg.evaluation import IoUMetric

    data = open_scenes(
        "ade20k", "test", ScenesConfig(train=1, validation=1, test=6), tmp_path / "s"
    )
    metric = IoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = {"classes": list(data.classes)}
    for path in controls.label_maps(data.test):
        truth = torch.from_numpy(np.asarray(Image.open(path)) - 1)  # 0, unlabelled, becomes 255
        everywhere = torch.zeros_like(truth)
        parts = {"pred_sem_seg": {"data": everywhere}, "gt_sem_seg": {"data": truth}}
        metric.process({}, [parts])
    wanted = metric.evaluate(data.test.count)["mIoU"]
    floor = background_miou(data.test.pixels)
    assert floor == pytest.approx(wanted, abs=0.006)  # mmseg rounds to two decimals


def test_there_is_a_protocol_for_each_head_with_the_hash_of_its_config(nano, scenes):
    found = Segmentation().protocols(nano, scenes)
    assert found == [
        SegmentationProtocol(
            head, f"shapes_{head}", config_hash(read_config("segmentation", f"shapes_{head}"))
        )
        for head in ("upernet", "linear")
    ]
    assert [Segmentation(p).variant for p in found] == ["UPerNet", "linear"]
    assert len({p.config_hash for p in found}) == 2


@pytest.mark.parametrize(("arch", "size"), [("ViT-L/16", "vitl16"), ("Swin-T/7", "swint")])
def test_ade20k_has_configs_for_each_architecture(nano, arch, size):
    found = Segmentation().protocols(of_arch(nano, arch), dense("ade20k", name="ade20k"))
    assert [p.config for p in found] == [f"ade20k_{h}_{size}" for h in ("upernet", "linear")]


def test_a_protocol_may_name_one_head_and_its_config(nano):
    asked = SegmentationProtocol("upernet", "ade20k_upernet_vitb16_640")
    found = Segmentation(asked).protocols(nano, dense("ade20k", name="ade20k"))
    assert [(p.head, p.config) for p in found] == [("upernet", "ade20k_upernet_vitb16_640")]


def test_an_architecture_without_a_published_config_is_named(nano):
    with pytest.raises(UserError, match="no config for ViT-Nano/8 on ade20k") as error:
        Segmentation().protocols(nano, dense("ade20k", name="ade20k"))
    assert str(error.value).count(".") == 1


def test_pixels_are_not_segmented(scenes):
    with pytest.raises(UserError, match="gives no feature maps; a ViT or a Swin does"):
        Segmentation().protocols(load_backbone("pixels:64"), scenes)


def test_without_the_extra_dense_a_suite_says_so(monkeypatch):
    monkeypatch.setattr(installation, "missing", lambda: "the extra `dense` is not installed.")
    fit, (left,) = runnable([Segmentation()], ["ade20k"])
    assert fit == [] and left.what == "segmentation" and left.why.startswith("dense: the extra")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_labels_of_other_images_teach_the_floor(tmp_path: Path):
    """With its own labels the same run does better: neither the data nor the test leaks them."""
    few = ScenesConfig(train=120, validation=1, test=20)
    data = open_scenes("ade20k", "test", few, tmp_path / "scenes")
    config = controls.shortened("segmentation", "shapes_linear", tmp_path, steps=30)
    asked = Segmentation(SegmentationProtocol("linear", config))
    found, control = (
        controls.run(asked, given, tmp_path / "runs")["linear", "mIoU"]
        for given in (data, controls.misplaced(data, tmp_path))
    )
    floor = background_miou(data.test.pixels)
    # of four seeds of scenes and weights: at most 0.7 away, and 2.8 to 4.3 above
    assert abs(control - floor) < 1
    assert found > floor + 2
