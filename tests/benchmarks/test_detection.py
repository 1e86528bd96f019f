from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sslbench.benchmarks.dense import installation, job
from sslbench.benchmarks.dense.prepare import config_hash, read_config
from sslbench.benchmarks.detection import Detection, DetectionProtocol
from sslbench.benchmarks.segmentation import Segmentation
from sslbench.checkpoints.load import load_backbone
from sslbench.data.dense import open_scenes
from sslbench.data.scenes import ScenesConfig
from sslbench.errors import UserError
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.jobs import runnable
from sslbench.evaluation.provenance import Provenance
from sslbench.recipes.load import benchmark_configs
from tests.benchmarks.dense import controls
from tests.benchmarks.fakes import figures
from tests.evaluation.fakes import dense

CPU = torch.device("cpu")
SCENES = dense("coco", name="shapes-coco", embedded=True)
COCO = dense("coco", name="coco")
FOUND = {
    "coco/bbox_mAP": 0.289,
    "coco/bbox_mAP_50": 0.46,
    "coco/bbox_mAP_75": 0.334,
    "coco/bbox_mAP_s": 0.311,
    "coco/bbox_mAP_m": -1.0,
    "coco/bbox_mAP_l": -1.0,
    "coco/segm_mAP": 0.25,
    "coco/segm_mAP_50": 0.0,
    "coco/segm_mAP_l": 0.125,
    "coco/disk_precision": 0.7,
}


@pytest.fixture(scope="module")
def nano():
    return load_backbone(controls.NANO)


def of_arch(model, arch):
    return replace(model, card=replace(model.card, arch=arch))


def records(monkeypatch, model, metrics, data=SCENES):
    """What is recorded where training and testing give `metrics`; and the config they got."""
    given = []
    monkeypatch.setattr(job, "train_and_test", lambda config, _: given.append(config) or metrics)
    context = EvalContext(model, 3, CPU, Provenance.here(CPU))
    (protocol,) = Detection().protocols(model, data)
    return Detection(protocol).run(model.backbone, data, context), given[0]


def test_average_precisions_are_recorded_in_percent_under_the_papers_names(monkeypatch, nano):
    found, _ = records(monkeypatch, nano, FOUND)
    assert figures(found) == pytest.approx(
        {
            ("", "AP^b"): 28.9,
            ("", "AP^b_50"): 46.0,
            ("", "AP^b_75"): 33.4,
            ("", "AP^b_S"): 31.1,
            ("", "AP^m"): 25.0,
            ("", "AP^m_50"): 0.0,
            ("", "AP^m_L"): 12.5,
        }
    )
    assert {(r.model.sha256, r.n, r.seed) for r in found} == {(nano.card.sha256, 7, 3)}
    assert set(Detection.main) <= set(figures(found))
    assert found[0].versions["onedl-mmdetection"] and found[0].versions["pycocotools"]


def test_where_nothing_is_detected_the_precision_is_zero(monkeypatch, nano):
    found, _ = records(monkeypatch, nano, {})
    names = [f"AP^{kind}{at}" for kind in "bm" for at in ("", "_50", "_75")]
    assert figures(found) == {("", name): 0.0 for name in names}


def test_what_runs_is_the_config_fitted_to_the_model_and_the_data(monkeypatch, nano):
    _, config = records(monkeypatch, nano, {})
    assert config.model.backbone.source == controls.NANO
    assert config.model.roi_head.bbox_head[0].num_classes == len(SCENES.classes)
    assert config.test_dataloader.dataset.ann_file == str(SCENES.test.annotations)
    assert config.randomness.seed == 3


def test_a_protocol_names_its_config_and_every_value_in_it(nano, tmp_path):
    (protocol,) = Detection().protocols(nano, SCENES)
    assert protocol == DetectionProtocol("shapes", config_hash(read_config("detection", "shapes")))
    hashes = {protocol.config_hash}
    for lr in (1e-3, 1e-4):
        path = tmp_path / f"{lr}.py"
        base = str(benchmark_configs("detection")["shapes"])
        path.write_text(f"_base_ = [{base!r}]\noptim_wrapper = dict(optimizer=dict(lr={lr}))\n")
        (own,) = Detection(DetectionProtocol(str(path))).protocols(nano, SCENES)
        assert own.config == str(path)
        hashes.add(own.config_hash)
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("arch", "config"), [("ViT-L/16", "coco_vitl16"), ("Swin-T/14", "coco_swint")]
)
def test_coco_has_a_config_for_each_architecture(nano, arch, config):
    (protocol,) = Detection().protocols(of_arch(nano, arch), COCO)
    assert protocol.config == config


def test_an_architecture_without_a_published_config_is_named(nano):
    with pytest.raises(UserError, match="no config for ViT-Nano/8 on coco") as error:
        Detection().protocols(nano, COCO)
    assert str(error.value).count(".") == 1


def test_a_config_is_asked_for_by_name_or_file(nano, tmp_path):
    """E1: the sentence names --config, which can be followed."""
    with pytest.raises(UserError, match=r"name one with --config NAME\|FILE, such as "):
        Detection().protocols(nano, COCO)
    (protocol,) = Detection().configured("coco_vits16").protocols(nano, COCO)
    assert protocol.config == "coco_vits16"
    assert Detection().configured("ade20k_upernet_vits16") is None
    base = str(benchmark_configs("detection")["shapes"])
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = [{base!r}]\n")
    (own,) = Detection().configured(str(mine)).protocols(nano, COCO)
    assert own.config == str(mine)
    assert Segmentation().configured(str(mine)) is None
    linear = Segmentation().configured("ade20k_linear_vits16")
    assert (linear.protocol.head, linear.protocol.config) == ("linear", "ade20k_linear_vits16")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (", "cannot be read, "),
        ("model = dict()", "whether it is for detection or segmentation"),
        ("default_scope = 'mmdet'", "has no model and no train_dataloader"),
        ("{base}model = dict(backbone=dict(type='ResNet'))", "has the backbone 'ResNet'"),
    ],
)
def test_a_file_that_is_no_config_is_one_sentence(tmp_path, text, said):
    base = f"_base_ = [{str(benchmark_configs('detection')['shapes'])!r}]\n"
    (tmp_path / "mine.py").write_text(text.replace("{base}", base))
    with pytest.raises(UserError, match=said):
        Detection().configured(str(tmp_path / "mine.py"))
    with pytest.raises(UserError, match="no such file"):
        Detection().configured(str(tmp_path / "none.py"))


def test_pixels_are_not_tuned():
    with pytest.raises(UserError, match="gives no feature maps; a ViT or a Swin does"):
        Detection().protocols(load_backbone("pixels:64"), SCENES)


def test_without_the_extra_dense_a_suite_says_so(monkeypatch):
    monkeypatch.setattr(installation, "missing", lambda: "the extra `dense` is not installed.")
    fit, (left,) = runnable([Detection()], ["coco"])
    assert fit == [] and left.what == "detection" and left.why.startswith("dense: the extra")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_boxes_of_other_images_teach_nothing(tmp_path: Path):
    """With its own boxes the same run detects: neither the data nor the test leaks them."""
    few = ScenesConfig(image_size=96, train=120, validation=1, test=24)
    data = open_scenes("coco", "test", few, tmp_path / "scenes")
    config = controls.shortened("detection", "shapes", tmp_path, steps=40)
    wrong = controls.misplaced(data, tmp_path)
    found, control = (
        controls.run(Detection(DetectionProtocol(config)), given, tmp_path / "runs")
        for given in (data, wrong)
    )
    # of four seeds of scenes and weights: all 0.0, and 3.3 to 6.8 with 1.3 to 4.0
    assert control["", "AP^b"] < 0.5 and control["", "AP^m"] < 0.5
    assert found["", "AP^b"] > 2 and found["", "AP^m"] > 1
    assert {m for _, m in found} >= {f"AP^{k}{s}" for k in "bm" for s in ("", "_50", "_75", "_S")}
    assert not {m for _, m in found} & {"AP^b_L", "AP^m_L"}  # no object is large
