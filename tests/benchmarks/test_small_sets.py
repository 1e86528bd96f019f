"""Sets too small for a number: a blank with a reason, and never the end of a suite (E3)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sslbench.benchmark import Splits
from sslbench.benchmarks.clustering import Clustering
from sslbench.benchmarks.knn import KNN
from sslbench.benchmarks.linear import Linear, LinearProtocol, Probe
from sslbench.benchmarks.linear_layers import LinearLayers, LinearLayersProtocol
from sslbench.benchmarks.linear_online import LinearOnline, LinearOnlineProtocol
from sslbench.benchmarks.online import Online
from sslbench.benchmarks.semi_supervised import SemiSupervised, SemiSupervisedProtocol
from sslbench.evaluation.suite import run_suite
from sslbench.reporting.rendering import to_markdown
from sslbench.reporting.store import Store
from sslbench.reporting.table import build
from tests.evaluation.fakes import Images, model

PROBE, ONLINE = Probe(epochs=2), Online(epochs=1)
ALL = [
    KNN(),
    Clustering(),
    Linear(LinearProtocol(PROBE)),
    SemiSupervised(SemiSupervisedProtocol(probe=PROBE)),
    LinearOnline(LinearOnlineProtocol(ONLINE)),
    LinearLayers(LinearLayersProtocol(ONLINE)),
]


def images(labels: list[int], classes: str, seed: int, split: str) -> Images:
    made = Images(len(labels), seed, split)
    made.labels, made.classes = np.array(labels), tuple(classes)
    return made


def run(tmp_path, classes: str, train: list[int], test: list[int]) -> dict:
    """(benchmark, setting, metric) -> record of every benchmark of images."""
    parts = (images(train, classes, 0, "train"), images(test, classes, 1, "test"))
    data = Splits("few", "f00d", tuple(classes), *parts)
    more = {"device": torch.device("cpu"), "work_dir": tmp_path / "work"}
    found = run_suite([model()], {"images": data}, ALL, Store(tmp_path / "r.jsonl"), **more)
    markdown = to_markdown(build(found, "all"))
    for r in found:
        assert math.isnan(r.value) == bool(r.missing)
        assert not r.missing or r.missing in markdown.replace("\\", "")
    return {(r.benchmark, r.setting, r.metric): r for r in found}


MAIN = [(b.name, *pair) for b in ALL for pair in b.main]


def test_one_class_gives_no_number(tmp_path):
    found = run(tmp_path, "a", [0] * 12, [0] * 8)
    assert {key: bool(found[key].missing) for key in MAIN} == dict.fromkeys(MAIN, True)
    reason = "few has one class, so that every answer is right."
    assert found["knn", "k=20", "top1"].missing == reason
    assert found["linear", "best of 45 lr", "top1"].missing == reason
    assert "one class" in found["clustering", "k-means", "NMI"].missing


def test_one_image_a_class(tmp_path):
    found = run(tmp_path, "abc", [0, 1, 2], [0, 1, 2])
    assert "3 images, fewer than k" in found["knn", "k=20", "top1"].missing
    assert "3 images for 3 clusters" in found["clustering", "k-means", "ACC"].missing
    assert "less than one image per class" in found[MAIN[-4]].missing
    for benchmark, setting in (
        ("linear", "best of 45 lr"),
        ("linear_online", "best of 45 lr"),
        ("linear_layers", "best block"),
    ):
        assert 0 <= found[benchmark, setting, "top1"].value <= 100


def test_a_class_without_images_to_judge_or_to_learn_from(tmp_path):
    train, test = [0, 1] * 15, [0, 2] * 10
    found = run(tmp_path, "abc", train, test)
    assert found["knn", "k=20", "top1"].value <= 50  # no neighbour is of class c
    assert not found["clustering", "k-means", "NMI"].missing


def test_judged_images_of_one_class_are_no_clusters(tmp_path):
    found = run(tmp_path, "ab", [0, 1] * 15, [1] * 20)
    assert "holds one class" in found["clustering", "k-means", "NMI"].missing
    assert not found["knn", "k=20", "top1"].missing


@pytest.mark.parametrize("size", [6, 15])
def test_every_k_has_a_number_or_a_reason(tmp_path, size):
    found = run(tmp_path, "ab", [0, 1] * size, [0, 1] * 10)
    for k in (10, 20, 100, 200):
        assert bool(found["knn", f"k={k}", "top1"].missing) == (k > 2 * size)
