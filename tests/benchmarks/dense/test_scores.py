"""AP and mIoU are pycocotools' and a confusion matrix's; the libraries' own tools find the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sslbench.benchmarks.dense.__main__ import main
from tests.benchmarks.dense.small import (
    DETECTOR,
    LINEAR,
    metrics_of,
    scenes,
    small_config,
    truth_of,
)

# pycocotools' summary -> mmdet's names
SUMMARY = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")

pytestmark = pytest.mark.slow  # mmdet's import alone takes ten seconds


@pytest.mark.parametrize("what", [DETECTOR, LINEAR], ids=["mmdet", "mmseg"])
def test_the_library_s_own_tool_finds_the_same(ended, tmp_path: Path, monkeypatch, what):
    folder, library = ended(what), {DETECTOR: "mmdet", LINEAR: "mmseg"}[what]
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setenv("LOCAL_RANK", "0")
    files = [str(folder / "detector.py"), str(folder / "detector.pth")]
    assert main([library, "test", *files, "--work-dir", str(tmp_path)]) == 0
    (log,) = tmp_path.glob("*/*.json")
    found, expected = json.loads(log.read_text()), metrics_of(folder)
    assert len(expected) > 2
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=0.005)


def average_precision(truth: Path, predictions: Path, kind: str) -> dict[str, float]:
    """pycocotools by itself, in mmdet's names."""
    coco, results = COCO(str(truth)), json.loads(predictions.read_text())
    if kind == "segm":
        results = [{k: v for k, v in row.items() if k != "bbox"} for row in results]
    judge = COCOeval(coco, coco.loadRes(results), kind)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return {f"coco/{kind}_{name}": v for name, v in zip(SUMMARY, judge.stats, strict=False)}


def test_ap_is_pycocotools(ended, root: Path):
    folder, truth = ended(DETECTOR), scenes(root, "detection").test.annotations
    metrics = metrics_of(folder)
    assert metrics["coco/bbox_mAP_50"] > 0, "a detector that finds nothing says nothing"
    for kind in ("bbox", "segm"):
        own = average_precision(truth, folder / f"predictions.{kind}.json", kind)
        assert {name: metrics[name] for name in own} == pytest.approx(own, abs=5.001e-4)


def disturbed(coco: COCO, image: int, classes: int, rng: np.random.Generator) -> dict:
    """The annotations of an image as detections: moved by pixels, some of a wrong class."""
    entries = coco.loadAnns(coco.getAnnIds(image))
    masks = np.stack([coco.annToMask(entry) for entry in entries]).astype(bool)
    shift = rng.integers(-2, 3, size=(len(entries), 2))
    masks = np.stack([np.roll(m, s, axis=(1, 0)) for m, s in zip(masks, shift, strict=True)])
    corners = np.array([entry["bbox"] for entry in entries], dtype=np.float32)
    corners[:, 2:] += corners[:, :2]
    corners += np.tile(shift, 2)
    labels = np.array([sorted(coco.cats).index(entry["category_id"]) for entry in entries])
    labels = np.where(rng.random(len(labels)) < 0.2, rng.integers(classes), labels)
    found = {"bboxes": corners, "labels": labels, "masks": masks}
    found["scores"] = rng.random(len(entries)).astype(np.float32)
    return {
        "img_id": image,
        "ori_shape": masks.shape[1:],
        "pred_instances": {key: torch.from_numpy(value) for key, value in found.items()},
    }


def test_ap_of_disturbed_annotations_is_pycocotools(root: Path, tmp_path: Path):
    from mmdet.evaluation import CocoMetric

    data, rng = scenes(root, "detection"), np.random.default_rng(0)
    settings = dict(small_config(root, *DETECTOR).test_evaluator)
    assert (settings.pop("type"), settings.pop("_scope_")) == ("CocoMetric", "mmdet")
    metric = CocoMetric(**settings, outfile_prefix=str(tmp_path / "predictions"))
    metric.dataset_meta = {"classes": data.classes}
    coco = COCO(str(data.test.annotations))
    for image in coco.getImgIds():
        metric.process({}, [disturbed(coco, image, len(data.classes), rng)])
    found = metric.evaluate(size=data.test.count)
    for kind in ("bbox", "segm"):
        own = average_precision(data.test.annotations, tmp_path / f"predictions.{kind}.json", kind)
        assert 0.1 < own[f"coco/{kind}_mAP"] < 0.9
        assert {name: found[name] for name in own} == pytest.approx(own, abs=5.001e-4)


def test_miou_is_that_of_a_confusion_matrix(ended, root: Path):
    folder, n = ended(LINEAR), len(scenes(root, "segmentation").classes)
    confusion = np.zeros((n, n), dtype=np.int64)
    for path in truth_of(root):
        truth = np.asarray(Image.open(path)).astype(int).ravel()
        found = np.asarray(Image.open(folder / "predictions" / path.name)).astype(int).ravel()
        labelled = truth > 0
        np.add.at(confusion, (truth[labelled] - 1, found[labelled] - 1), 1)
    hits, true, said = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    assert np.count_nonzero(hits) > 1, "a segmenter of one class says nothing"
    with np.errstate(invalid="ignore"):  # 0 / 0 is a class that does not occur
        own = {
            "mIoU": 100 * np.nanmean(hits / (true + said - hits)),
            "mAcc": 100 * np.nanmean(hits / true),
            "aAcc": 100 * hits.sum() / true.sum(),
        }
    assert metrics_of(folder) == pytest.approx(own, abs=0.00501)
