import pytest
import torch

from sslbench.benchmark import FeatureSpec
from sslbench.benchmarks.knn import KNN
from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.context import EvalContext, wilson
from sslbench.evaluation.provenance import Provenance
from tests.evaluation.fakes import TinyBackbone, model, splits

CPU = torch.device("cpu")


def context(judged, cache=None, **more):
    return EvalContext(judged, 0, CPU, Provenance.here(CPU), cache, **more)


def test_features_are_computed_once_and_then_come_from_the_cache(tmp_path):
    judged, data, cache = model(), splits(), FeatureCache(tmp_path)
    first = context(judged, cache)
    x = first.features(judged.backbone, data, "test", FeatureSpec()).x
    first.features(judged.backbone, data, "test", FeatureSpec(2, "cls+mean"))
    again = context(judged, cache).features(judged.backbone, data, "test", FeatureSpec()).x
    assert judged.backbone.calls == 1
    assert torch.equal(x, again)
    context(judged, cache).features(judged.backbone, data, "train", FeatureSpec())
    assert judged.backbone.calls == 2


def test_other_weights_or_another_transform_never_share_features(tmp_path):
    cache, data = FeatureCache(tmp_path), splits()
    judged = [model("aa"), model("bb"), model("aa", image_size=4), model("aa", mean=(0, 0, 0))]
    for one in judged:
        context(one, cache).features(one.backbone, data, "test", FeatureSpec())
    assert [one.backbone.calls for one in judged] == [1, 1, 1, 1]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_foreign_backbone_is_refused():
    with pytest.raises(ValueError, match="own backbone"):
        context(model()).features(TinyBackbone(), splits(), "test", FeatureSpec())


def test_a_record_is_complete():
    result = context(model()).result(KNN(), splits(), "k=20", "top1", 75.0, 400)
    assert result.protocol["k"] == [10, 20, 100, 200]
    assert (result.protocol["image_size"], result.protocol["crop_ratio"]) == (8, 1.0)
    assert (result.pool, result.split, result.dataset_fingerprint) == ("cls", "test", "f00d")
    assert result.interval == pytest.approx((70.53, 78.99), abs=0.01)
    assert result.versions["torch"]
    assert result.hardware
    assert result.code_version.startswith("0.")
    assert context(model()).result(KNN(), splits(), "", "NMI", 75.0, 400).interval is None


def test_wilson_stays_inside_the_scale():
    assert wilson(0, 10) == pytest.approx((0, 27.75), abs=0.01)
    assert wilson(100, 10) == pytest.approx((72.25, 100), abs=0.01)
