"""Which network of a file is evaluated where it holds several, and what `?key=` chooses."""

import pytest
import torch

from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from tests.checkpoints.layouts import head, prefixed, vit
from tests.checkpoints.test_official import TINY, load

A, B = vit(**TINY), {k: v + 1 for k, v in vit(**TINY).items()}
HEADS = {k: v + 1 for k, v in head(16).items()}, head(16)


def pair(first, second, heads=("", "")):
    """Two networks in one dict, each with a head."""
    tensors = prefixed(A, f"{first}.") | prefixed(B, f"{second}.")
    for prefix, one in zip(heads, HEADS, strict=True):
        tensors |= prefixed(one, prefix) if prefix else {}
    return {"state_dict": tensors}


LIGHTLY = pair("student_backbone", "teacher_backbone", ("student_head.", "teacher_head."))
SOLO = pair("backbone", "momentum_backbone", ("head.", "momentum_head."))
FLAT = pair("student.backbone", "teacher.backbone", ("student.head.", "teacher.head."))
BARE = pair("student", "teacher", ("student.head.", "teacher.head."))


@pytest.mark.parametrize(
    "saved, key, chosen, stem, other",
    [
        (LIGHTLY, None, B, "teacher_", "student_"),
        (LIGHTLY, "student_backbone", A, "student_", "teacher_"),
        (LIGHTLY, "student", A, "student_", "teacher_"),
        (SOLO, "backbone", A, "", "momentum_"),
        (SOLO, "momentum_backbone", B, "momentum_", ""),
        (FLAT, None, B, "teacher.", "student."),
        (FLAT, "student.backbone", A, "student.", "teacher."),
        (BARE, "teacher", B, "teacher.", "student."),
        (BARE, "student", A, "student.", "teacher."),
    ],
)
def test_one_of_two_networks_comes_with_its_own_head(tmp_path, saved, key, chosen, stem, other):
    saved = {**saved, "dino_loss": {}, "epoch": 1}
    model = load(tmp_path, saved, query=f"?key={key}" if key else "")
    assert torch.equal(model.backbone.cls_token, chosen["cls_token"])
    expected = HEADS[0] if chosen is A else HEADS[1]
    assert torch.equal(model.head.last_layer.weight_v, expected["last_layer.weight_v"])
    dropped = model.report.dropped["another network"]
    assert len(dropped) == len(saved["state_dict"]) / 2 and all(
        k.startswith(other) for k in dropped
    )
    assert set(model.report.loaded) | set(dropped) == set(saved["state_dict"])
    assert f"{stem}head.last_layer.weight_v" in model.report.loaded


@pytest.mark.parametrize("key", ["backbone", "momentum_backbone"])
def test_what_only_pretraining_needs_is_left_out(tmp_path, key):
    extra = {"criterion.center.center": torch.ones(1, 11), "predictor.0.weight": torch.ones(2, 2)}
    extra |= {
        "momentum_projector.2.weight": torch.ones(2, 2),
        "dino_loss_func.center": torch.ones(1),
    }
    model = load(tmp_path, {"state_dict": SOLO["state_dict"] | extra}, query=f"?key={key}")
    assert {k for keys in model.report.dropped.values() for k in keys} > set(extra)


@pytest.mark.parametrize(
    "saved, query, said",
    [
        (SOLO, "", r"holds 2 backbones \(backbone., momentum_backbone.\); .*\?key=backbone'"),
        (pair("a", "b"), "", r"choose one with '.*x.pth\?key=a'"),
        (pair("a", "b"), "?key=c", r"has no 'c': .*known: a, b, state_dict"),
        (A, "?key=student", "has no 'student': it holds one network alone; leave out .key="),
        (prefixed(A, "module.backbone."), "?key=student", "has no 'student': .*known: backbone"),
        ({"state_dict": A}, "?key=student", "has no 'student': .*known: state_dict"),
        ({"teacher": A, "optimizer": {"state": {}}}, "?key=optimizer", "has no 'optimizer'"),
        ({"model_ema": A, "epoch": 1}, "", r"model_ema, epoch and no .*x.pth\?key=model_ema'"),
        ({"net": {"backbone": A}}, "", r"holds net and no .*x.pth\?key=net.backbone'"),
        ({"teacher": {"backbone": A}}, "", r"\?key=teacher.backbone'"),
        ({"teacher": {"conv1.weight": A["cls_token"]}}, "", r"among its 1 names \(conv1.weight\)"),
        ({"state_dict": {}}, "", "no patch embedding is there, for it is empty"),
        ({**A, 1: A["cls_token"]}, "", "has 1 as a name; save a plain state dict"),
    ],
)
def test_a_choice_that_is_open_or_wrong_is_one_sentence(tmp_path, saved, query, said):
    with pytest.raises(UserError, match=said) as refused:
        load(tmp_path, saved, query=query)
    assert "\n" not in str(refused.value) and "()" not in str(refused.value)


@pytest.mark.parametrize(
    "saved, query",
    [
        ({"model_ema": A}, "?key=model_ema"),
        ({"net": {"backbone": A}}, "?key=net.backbone"),
        (prefixed(A, "module.backbone."), "?key=backbone"),
    ],
)
def test_what_is_proposed_works(tmp_path, saved, query):
    model = load(tmp_path, saved, query=query)
    assert torch.equal(model.backbone.cls_token, A["cls_token"])
    assert load_backbone(model.source).card == model.card
    assert "module.backbone.cls_token" in model.report.loaded or query != "?key=backbone"
