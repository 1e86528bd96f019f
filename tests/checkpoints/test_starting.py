"""What a training starts from: every part that official files, timm's and our own runs hold."""

from __future__ import annotations

import argparse
from dataclasses import asdict

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from sslbench import plugins
from sslbench.backbones.config import SIZES, BackboneConfig
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.starting import read_start
from sslbench.errors import UserError
from sslbench.methods.self_distillation import load_head
from sslbench.recipes.load import recipe_from_dict
from sslbench.training.build import build_method, start_method
from tests.checkpoints.layouts import NANO, beit, head, prefixed, vit

VIT = BackboneConfig("vit_nano", 16, 32, 0.0)
BEIT = BackboneConfig("beit_nano", 16, 32, 0.0, positions="shared relative", layer_scale=0.1)
HEAD = {"out_dim": 11, "hidden_dim": 12, "bottleneck_dim": 8}
CROPS = {"global_size": 32, "local_size": 16, "local_crops": 1}
MARK = {"dino": {"use_bn_in_head": False}, "ibot": {"pred_ratio": 0.3}}


@pytest.fixture(autouse=True)
def tiny_others(monkeypatch):
    monkeypatch.setitem(SIZES, "beit_nano", (16, 2, 2, 0.1))


def network(seed: int, method: str, student: bool) -> dict[str, torch.Tensor]:
    """One network of a full checkpoint; the student's names are those that DDP gives."""
    torch.manual_seed(seed)
    tensors = {k: v + seed * 0.01 for k, v in vit(**NANO, grid=2).items()}
    if method == "ibot" and student:
        tensors["masked_embed"] = torch.full((1, 16), 0.7)
    projection = head(16, second="shared" if method == "ibot" else None)
    projection = {k: v + seed * 0.01 for k, v in projection.items()}
    both = prefixed(tensors, "backbone.") | prefixed(projection, "head.")
    return prefixed(both, "module.") if student else both


def full(path, method: str):
    """A full checkpoint as main_dino.py and main_ibot.py save it."""
    centres = {"center": torch.full((1, 11), 0.25)}
    if method == "ibot":
        centres["center2"] = torch.full((1, 1, 11), 0.5)
    state = {
        "student": network(1, method, True),
        "teacher": network(2, method, False),
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_small", local_crops_number=1, **MARK[method]),
        f"{method}_loss": centres,
    }
    torch.save(state, path)
    return path


def recipe(method: str, source, backbone: BackboneConfig = VIT, heads: str = "keep", **settings):
    own = {"views": {"size": 32, "token_size": 16}} if method == "beit" else HEAD
    own = own if method == "beit" else {**own, "views": CROPS}
    values = {"name": "x", "method": {"name": method, **own, **settings}}
    values |= {"backbone": asdict(backbone), "init": {"source": str(source), "heads": heads}}
    if method == "beit":
        values["needs"] = {"tokenizer": "random-init:dvae"}
    return recipe_from_dict(values)


def started(*args, **options):
    chosen = recipe(*args, **options)
    method = build_method(chosen)
    record, notes = start_method(method, chosen)
    return method, record, notes


def assert_same_features(method, source) -> None:
    """The network that is evaluated computes what the source's does."""
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = method.backbone().eval()(images), load_backbone(source).backbone(images)
    for a, b in ((ours.cls, theirs.cls), (ours.patches, theirs.patches)):
        assert float((a - b).abs().max()) <= 1e-5


@pytest.mark.parametrize("method", ["dino", "ibot"])
def test_a_full_checkpoint_gives_both_networks_their_heads_and_the_centres(tmp_path, method):
    path = full(tmp_path / "full.pth", method)
    trained, record, notes = started(method, path)
    assert_same_features(trained, path)
    for name, seed in (("student", 1), ("teacher", 2)):
        official = network(seed, method, False)
        state = trained.state_dict()
        key = "blocks.0.mlp.fc1.weight"
        assert torch.equal(state[f"{name}.backbone.{key}"], official[f"backbone.{key}"])
        key = "last_layer.weight_v"
        assert torch.equal(state[f"{name}.head.{key}"], official[f"head.{key}"])
    assert trained.centre.value.tolist() == [0.25] * 11
    if method == "ibot":
        assert trained.patch_centre.value.tolist() == [0.5] * 11
        assert float(trained.student["backbone"].mask_token.mean()) == pytest.approx(0.7)
    assert notes[1:] == ["the projection heads are those of the source"]
    assert record["method"] == method and record["name"] == "full.pth"


def test_new_heads_keep_both_backbones_only(tmp_path):
    path = full(tmp_path / "full.pth", "dino")
    trained, _, notes = started("dino", path, heads="new", out_dim=7)
    assert_same_features(trained, path)
    student = network(1, "dino", False)["backbone.cls_token"]
    assert torch.equal(trained.student["backbone"].cls_token, student)
    assert trained.centre.value.abs().sum() == 0
    assert "the projection heads and centres are new" in notes


def test_a_head_of_another_size_is_one_sentence_that_names_the_remedy(tmp_path):
    path = full(tmp_path / "full.pth", "dino")
    with pytest.raises(UserError, match=r"does not fit .*\(11, 8\).*\(7, 8\); set init\.heads=new"):
        started("dino", path, out_dim=7)


def test_the_tensor_in_which_two_heads_differ_is_named():
    head = nn.Linear(2, 3)
    tensors = {**head.state_dict(), "last_layer2.weight_v": torch.zeros(11, 8)}
    with pytest.raises(UserError, match=r"last_layer2\.weight_v is in the weights alone; set "):
        load_head(head, tensors)
    with pytest.raises(UserError, match=r"bias is in the recipe alone; set init\.heads=new"):
        load_head(head, {"weight": head.weight})


def test_dino_becomes_ibot_with_a_new_mask_token_and_patch_centre(tmp_path):
    path = full(tmp_path / "full.pth", "dino")
    trained, _, notes = started("ibot", path)
    assert_same_features(trained, path)
    assert trained.centre.value.tolist() == [0.25] * 11
    assert {"the mask token is new", "the patch centre is new"} <= set(notes)


def test_a_backbone_alone_gives_both_networks_the_same(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(vit(**NANO, grid=2), path)
    trained, _, notes = started("ibot", path)
    assert_same_features(trained, path)
    state = trained.state_dict()
    assert torch.equal(state["student.backbone.pos_embed"], state["teacher.backbone.pos_embed"])
    assert "the projection heads and centres are new" in notes


@pytest.mark.parametrize("codes", [8192, 9])
def test_beit_takes_the_classifier_that_fits_its_codes(tmp_path, codes):
    path = tmp_path / "x.pth"
    lm_head = {"lm_head.weight": torch.randn(codes, 16), "lm_head.bias": torch.randn(codes)}
    torch.save({"model": beit(**NANO, heads=2, grid=2) | lm_head}, path)
    trained, _, notes = started("beit", path, BEIT)
    assert_same_features(trained, path)
    kept = notes[-1].startswith("the classifier of codes is that of the source")
    assert kept == torch.equal(trained.lm_head.bias, lm_head["lm_head.bias"]) == (codes == 8192)


@pytest.mark.parametrize("classes", [4, 5])
def test_a_fine_tuned_beit_gives_a_second_stage_its_norm_and_the_classifier_that_fits(
    tmp_path, classes
):
    """beit/run_class_finetuning.py:325-330 drops `head` of another shape alone."""
    path = tmp_path / "x.pth"
    classifier = {f"{layer}.{part}": torch.randn(size) for layer, part, size in (
        ("fc_norm", "weight", (16,)), ("fc_norm", "bias", (16,)),
        ("head", "weight", (classes, 16)), ("head", "bias", (classes,)),
    )}  # fmt: skip
    tensors = beit(**NANO, heads=2, grid=2, positions="relative", norm=False)
    torch.save({"model": tensors | classifier}, path)
    chosen = second_stage(path, BEIT, token="mean", norm="new")
    trained = build_method(chosen, plugins.CLASSIFIERS)
    _, notes = start_method(trained, chosen)
    layers = trained.network.classifier
    assert torch.equal(layers.norm.weight, classifier["fc_norm.weight"])
    assert torch.equal(layers.norm.bias, classifier["fc_norm.bias"])
    kept = classes == 4
    assert kept == torch.equal(layers.linear.bias, classifier["head.bias"][:4])
    assert kept != ("the classifier is new" in notes[1])


def test_a_supervised_vit_gives_the_classifier_that_fits(tmp_path):
    """deit/main.py:283-287 does the same at another image size."""
    path = tmp_path / "x.pth"
    head = {"head.weight": torch.randn(4, 16), "head.bias": torch.randn(4)}
    torch.save({"model": vit(**NANO, grid=2) | head}, path)
    chosen = second_stage(path, VIT)
    trained = build_method(chosen, plugins.CLASSIFIERS)
    start_method(trained, chosen)
    assert torch.equal(trained.network.classifier.linear.weight, head["head.weight"])


def second_stage(source, backbone: BackboneConfig, **settings):
    """A fine-tuning of four classes that starts from `source`."""
    method = {"name": "supervised", "classes": 4, "views": {"size": 32}, **settings}
    values = {"name": "x", "method": method, "init": {"source": str(source)}}
    values["backbone"] = asdict(backbone)
    if backbone is BEIT:
        values["backbone"]["positions"] = "relative"
    return recipe_from_dict(values, plugins.CLASSIFIERS)


def test_a_teacher_chosen_by_key_gives_both_networks(tmp_path):
    path = full(tmp_path / "full.pth", "dino")
    weights = read_start(f"{path}?key=student")
    assert "student.backbone" not in weights.others
    trained, _, _ = started("dino", f"{path}?key=student")
    student = network(1, "dino", False)["backbone.cls_token"]
    assert torch.equal(trained.teacher["backbone"].cls_token, student)


def test_fresh_weights_of_another_seed_are_a_source_and_pixels_are_none():
    assert_same_features(started("dino", "random-init:vit_nano/16@32?seed=5")[0],
                         "random-init:vit_nano/16@32?seed=5")  # fmt: skip
    with pytest.raises(UserError, match="holds no weights to start from"):
        read_start("pixels:32")


def test_a_model_of_timm_is_a_source(monkeypatch):
    torch.manual_seed(0)
    peer = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=2, embed_dim=16,
                             num_heads=2, img_size=32).eval()  # fmt: skip
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: peer)
    trained, record, _ = started("dino", "timm:vit_tiny_patch16_224")
    assert_same_features(trained, "timm:vit_tiny_patch16_224")
    assert record["name"] == "timm:vit_tiny_patch16_224"
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs = peer.forward_features(images)[:, 0]
        assert float((trained.backbone()(images).cls - theirs).abs().max()) <= 1e-5


@pytest.mark.parametrize(
    ("method", "backbone", "reason"),
    [
        ("ibot", VIT, "backbone.name=beit_nano"),
        ("beit", BackboneConfig("vit_nano", 16, 32, 0.0), "backbone.name=beit_nano"),
    ],
)
def test_a_source_of_another_family_is_one_sentence(tmp_path, method, backbone, reason):
    path = tmp_path / "x.pth"
    torch.save(beit(**NANO, heads=2, grid=2), path)
    with pytest.raises(UserError, match=reason):
        started(method, path, backbone)


def test_a_source_that_does_not_exist_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        started("dino", tmp_path / "none.pth")


@pytest.mark.parametrize("style", ["safetensors", "hub"])
def test_other_files_of_a_fine_tuned_model_give_it_too(tmp_path, style):
    tensors = vit(**NANO, grid=2) | {"head.weight": torch.randn(4, 16), "head.bias": torch.ones(4)}
    path = tmp_path / ("x.safetensors" if style == "safetensors" else "pytorch_model.bin")
    save_file(tensors, path) if style == "safetensors" else torch.save(tensors, path)
    chosen = second_stage(path, VIT)
    trained = build_method(chosen, plugins.CLASSIFIERS)
    start_method(trained, chosen)
    assert torch.equal(trained.network.classifier.linear.weight, tensors["head.weight"])
