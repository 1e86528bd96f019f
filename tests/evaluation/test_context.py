import json
import math
from dataclasses import replace
from statistics import NormalDist

import pytest
import torch
from PIL import Image

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.benchmark import FeatureSpec, Splits
from sslbench.benchmarks.knn import KNN
from sslbench.data.folders import open_folder
from sslbench.data.transform import EvalTransform
from sslbench.errors import UserError
from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.context import EvalContext, wilson
from sslbench.evaluation.provenance import Provenance
from sslbench.result import Result
from tests.evaluation.fakes import STAND_IN, Boxes, TinyBackbone, dense, model, splits

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


def test_other_weights_settings_or_transforms_never_share_features(tmp_path):
    cache, data = FeatureCache(tmp_path), splits()
    judged = [model("aa"), model("bb"), model("aa", image_size=4), model("aa", mean=(0, 0, 0))]
    judged.append(model("aa"))
    judged[-1].backbone.config = BackboneConfig(norm_eps=1e-5)
    for one in judged:
        context(one, cache).features(one.backbone, data, "test", FeatureSpec())
    assert [one.backbone.calls for one in judged] == [1, 1, 1, 1, 1]
    assert len(list(tmp_path.iterdir())) == 5


def test_force_computes_features_anew_and_keeps_them(tmp_path):
    cache, data, judged = FeatureCache(tmp_path), splits(), model()
    for fresh in (False, True, True, False):
        again = context(judged, cache, fresh=fresh)
        for _ in range(2):
            again.features(judged.backbone, data, "test", FeatureSpec())
    assert judged.backbone.calls == 3  # not twice in one command, and not where it is not asked


def test_images_that_change_while_they_are_read_give_no_features(tmp_path):
    class Copying(TinyBackbone):
        def last_blocks(self, images, n):
            file.write_bytes(other)  # of the same size, as somebody copies into the folder
            return super().last_blocks(images, n)

    for label, level in (("a", 0), ("b", 255)):
        (tmp_path / "train" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "train" / label / "0.bmp")
    file = tmp_path / "train" / "a" / "0.bmp"
    other = (tmp_path / "train" / "b" / "0.bmp").read_bytes()
    images = open_folder(tmp_path, "train")
    data = Splits("set", images.fingerprint, images.classes, images, images, "test")
    cache, judged = FeatureCache(tmp_path / "cache"), model()
    judged.backbone = Copying()
    with pytest.raises(UserError, match="were changed while they were read"):
        context(judged, cache).features(judged.backbone, data, "train", FeatureSpec())
    assert not list((tmp_path / "cache").glob("*"))


def test_cached_features_keep_their_own_provenance(tmp_path):
    data, judged, cache = splits(), model(), FeatureCache(tmp_path)
    elsewhere = Provenance("0.0+old", {"torch": "1.0"}, "another machine")
    EvalContext(judged, 0, CPU, elsewhere, cache).features(
        judged.backbone, data, "test", FeatureSpec()
    )
    here = context(judged, cache)
    assert here.result(KNN(), data, "k=20", "top1", 75.0, 30).features == {}
    here.features(judged.backbone, data, "test", FeatureSpec())
    here.features(judged.backbone, data, "train", FeatureSpec())  # computed here
    record = here.result(KNN(), data, "k=20", "top1", 75.0, 30)
    assert set(record.features) == {"test"}
    origin = record.features["test"]
    assert (origin["code_version"], origin["hardware"]) == ("0.0+old", "another machine")
    assert origin["versions"] == {"torch": "1.0"} and origin["seconds"] >= 0 and origin["date"]
    assert record.hardware == here.provenance.hardware
    other_job = replace(here)  # as another job of the suite has it
    assert other_job.result(KNN(), data, "k=20", "top1", 75.0, 30).features == {}


def test_normalisation_is_part_of_the_protocol():
    usual, odd = model(), model(mean=(0.0, 0.0, 0.0), std=(9.0, 9.0, 9.0))
    for benchmark, data in ((KNN(), splits()), (Boxes(), dense())):
        records = [context(m).result(benchmark, data, "", "x", 1.0, 7) for m in (usual, odd)]
        assert records[1].protocol["mean"] == [0.0] * 3 and records[1].protocol["std"] == [9.0] * 3
        assert records[0].protocol_hash != records[1].protocol_hash


def test_equal_weights_read_in_another_way_are_another_protocol():
    usual, other = model(), model()
    usual.backbone.config = BackboneConfig("swin_tiny")
    other.backbone.config = replace(usual.backbone.config, norm_eps=1e-5)
    for benchmark, data in ((KNN(), splits()), (Boxes(), dense())):
        records = [context(m).result(benchmark, data, "", "x", 1.0, 7) for m in (usual, other)]
        assert records[0].protocol["backbone"] == "swin_tiny/16@224 window 7 eps 1e-06"
        assert records[0].protocol_hash != records[1].protocol_hash


def test_the_mean_patch_has_two_forms(tmp_path):
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("beit_nano", 4, 8)).eval()
    torch.nn.init.normal_(backbone.norm.weight)
    judged, data = model(), splits()
    judged.backbone = backbone
    here, passed = context(judged, FeatureCache(tmp_path)), []
    hook = backbone.patch_embed.register_forward_hook(lambda _, x, __: passed.append(len(x[0])))
    kinds = {p: FeatureSpec(1, p) for p in ("mean", "mean without norm")}
    found = {p: here.features(backbone, data, "test", spec).x for p, spec in kinds.items()}
    hook.remove()
    assert sum(passed) == len(data.test) and len(list(tmp_path.iterdir())) == 1
    images = EvalTransform.of(judged, data.test)
    pixels = torch.stack([images(data.test.image(i)) for i in range(len(data.test))])
    with torch.no_grad():
        tokens = backbone.last_blocks(images.normalise(pixels), 1)[0].patches
        normed = torch.nn.functional.layer_norm(
            tokens, tokens.shape[-1:], backbone.norm.weight, backbone.norm.bias, backbone.norm.eps
        )
    assert torch.allclose(found["mean"], normed.mean(dim=1), atol=1e-5)
    assert torch.allclose(found["mean without norm"], tokens.mean(dim=1), atol=1e-5)
    assert not torch.allclose(found["mean"], found["mean without norm"], atol=1e-2)


def test_a_number_that_is_missing_says_why():
    result = context(model()).result(
        KNN(), splits(), "k=20", "top1", float("nan"), 30, missing="too few images."
    )
    assert result.missing == "too few images." and result.interval is None
    again = Result.from_dict(json.loads(result.to_json()))
    assert again.missing == result.missing and math.isnan(again.value)
    assert json.loads(result.to_json())["value"] is None


def test_labels_are_needed():
    judged, data = model(), splits()
    data.test.labels = None
    with pytest.raises(UserError, match="no labelled images"):
        context(judged).features(judged.backbone, data, "test", FeatureSpec())


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


def test_a_dense_record_has_no_pool_and_no_size_of_crops():
    boxes = Boxes(Boxes.Protocol(size=5))
    result = context(model()).result(boxes, dense(split="validation"), "", "AP^b", 31.2, 7)
    shown = {"size": 5, "mean": [0.5] * 3, "std": [0.25] * 3}
    assert (result.pool, result.split, result.protocol) == ("", "validation", shown)
    assert (result.dataset, result.dataset_fingerprint) == ("scenes-coco", "coco0")
    assert result.interval is None


def test_a_record_may_be_a_stand_in_s():
    result = context(model()).result(Boxes(), dense(), "", "mIoU", 20.0, 7, model=STAND_IN)
    assert result.model == STAND_IN


def test_only_a_benchmark_s_own_records_hold_the_versions_of_its_libraries():
    class Wide(Boxes):
        libraries = ("rich", "no-such-library")

    narrow, wide = (context(model()).result(b(), dense(), "", "x", 1.0, 7) for b in (Boxes, Wide))
    assert set(wide.versions) - set(narrow.versions) == {"rich", "no-such-library"}
    assert wide.versions["rich"] and wide.versions["no-such-library"] == ""
    assert {"python", "torch", "scikit-learn"} <= set(narrow.versions)


def test_progress_of_the_job_itself_has_no_name():
    seen = []
    context(model(), on_progress=lambda *at: seen.append(at)).progress(3, 10)
    assert seen == [("", 3, 10)]


@pytest.mark.parametrize("hits, n", [(0, 1), (1, 1), (7, 240), (37_411, 50_000)])
def test_wilson_is_that_of_the_paper(hits, n):
    """The roots of |p - x| = z sqrt(x (1 - x) / n), which solve a quadratic equation."""
    z, p = NormalDist().inv_cdf(0.975), hits / n
    a, b, c = 1 + z * z / n, -(2 * p + z * z / n), p * p
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    expected = (100 * (-b - root) / (2 * a), 100 * (-b + root) / (2 * a))
    assert wilson(100 * hits / n, n) == pytest.approx(expected, abs=1e-9)


def test_wilson_stays_inside_the_scale():
    assert wilson(0, 10) == pytest.approx((0, 27.75), abs=0.01)
    assert wilson(100, 10) == pytest.approx((72.25, 100), abs=0.01)
