"""What a file of others says of its training, and how a wrong or poor account of it ends."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sslbench.checkpoints.convert import convert
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from sslbench.storage.weights import read_weights, save_weights
from tests.checkpoints.layouts import NANO, beit, vit
from tests.checkpoints.test_official import TINY, full, load, tiny_others

__all__ = ["tiny_others"]

LOCAL = (96 / 224) ** 2


@pytest.mark.parametrize(
    "args, views, seed",
    [
        (argparse.Namespace(local_crops_number=np.int64(10), seed=np.int64(3)), 2 + 10 * LOCAL, 3),
        (argparse.Namespace(local_crops_number=None, seed=None), 2, None),
        (argparse.Namespace(local_crops_number="8", seed="x"), 2, None),
        ({"local_crops_number": 8, "seed": 5, "lr": 0.1}, 2 + 8 * LOCAL, 5),
        ({"local_crops_number": float("nan"), "seed": 10**400}, 2, None),
        (None, 2, None),
    ],
)
def test_only_numbers_of_the_arguments_count(tmp_path, args, views, seed):
    model = load(tmp_path, full("dino_loss") | {"args": args, "epoch": np.int64(5)})
    card = model.card
    assert (card.epochs, card.seed) == (5, seed)
    assert card.effective_epochs == pytest.approx(5 * views, abs=0.01)
    path, _ = convert(str(tmp_path / "x.pth"), "safetensors", tmp_path / "y.safetensors")
    again = replace(load_backbone(path).card, source=card.source, file_sha256=card.file_sha256)
    assert again == card  # JSON can hold it


@pytest.mark.parametrize("kind", [argparse.Namespace, dict])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_head_of_another_activation_is_left_out(tmp_path, kind, activation):
    saved = full("ibot_loss", second="shared") | {"args": kind(act_in_head=activation)}
    model = load(tmp_path, saved)
    assert (model.head is None) == (activation == "relu")
    reasons = [reason for reason, keys in model.report.dropped.items() if len(keys) == 10]
    assert reasons == ["a projection head with 'relu' for an activation, not GELU"] * (
        activation == "relu"
    )


@pytest.mark.parametrize("name", ["checkpoint_teacher.pth", "checkpoint.pth", "x.pth"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_name_that_tells_nothing_is_to_be_changed(tmp_path, name, whole):
    model = load(tmp_path, full("ibot_loss") if whole else {"state_dict": vit(**TINY)}, name)
    told = [note for note in model.report.notes if "as `sslbench list weights` names it" in note]
    assert len(told) == (name != "x.pth" or not whole)
    assert all("nothing says which" in s and "rename it" in s and "ibot_vits16.pth" in s
               for s in told)  # fmt: skip


@pytest.mark.parametrize("name", ["x.PTH", "x.pth.tar", "x.Pt", "x.SafeTensors"])
def test_endings_in_any_case_are_known(tmp_path, name):
    saved = vit(**TINY)
    save_file(saved, tmp_path / name) if "Safe" in name else torch.save(saved, tmp_path / name)
    assert load_backbone(tmp_path / name).card.arch == "ViT-Nano/16"


EXTRA = {
    "for pretraining only": (
        lambda: {"backbone.mask_token": torch.zeros(1, 1, 16)}
        | {"head.cls_head.weight": torch.ones(9, 16), "head.cls_head.bias": torch.ones(9)}
    ),
    "a fine-tuned classifier": lambda: {
        "head.layers.head.weight": torch.ones(9, 16), "head.layers.head.bias": torch.ones(9)
    },
}  # fmt: skip


@pytest.mark.parametrize("reason", EXTRA)
def test_mmpretrains_heads_are_left_out_with_a_reason(tmp_path, reason):
    torch.save({"model": beit(**NANO, heads=2)}, tmp_path / "x.pth")
    path, _ = convert(str(tmp_path / "x.pth"), "mmpretrain", tmp_path / "y.pth")
    tensors = torch.load(path, weights_only=True)["state_dict"]
    model = load(tmp_path, {"state_dict": tensors | EXTRA[reason]()}, "z.pth")
    heads = {k for k in EXTRA[reason]() if "head" in k}
    assert {r: set(keys) for r, keys in model.report.dropped.items()} == {reason: heads}
    assert set(model.report.loaded) == (tensors | EXTRA[reason]()).keys() - heads


CARD = {
    "poolings": ["cls"],
    "image_size": 32,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "norm_eps": 1e-6,
}


@pytest.mark.parametrize(
    "card",
    [
        "no JSON",
        "[1]",
        json.dumps({"converted": 3}),
        json.dumps({"converted": CARD}),
        json.dumps({"converted": {**CARD, "model": {"x": 1}}}),
        json.dumps({"converted": {"model": {"sha256": "", "method": "dino", "arch": ""}}}),
        json.dumps({"recipe": {"method": {"name": "dino"}}}),
    ],
)
def test_a_damaged_card_is_one_sentence(tmp_path, card):
    save_file(vit(**TINY), tmp_path / "x.safetensors", {"sslbench": card})
    with pytest.raises(UserError, match=r"the card in .*x.safetensors (is damaged|lacks 'data')"):
        load_backbone(tmp_path / "x.safetensors")


def test_a_card_of_a_newer_version_is_named(tmp_path):
    torch.save(vit(**TINY), tmp_path / "x.pth")
    path, _ = convert(str(tmp_path / "x.pth"), "safetensors", tmp_path / "y.safetensors")
    tensors, card = read_weights(path)
    card["converted"]["model"]["licence"] = "MIT"
    save_weights(path, tensors, card)
    with pytest.raises(UserError, match=r"by a newer version of sslbench .it says 'licence'.; upd"):
        load_backbone(path)


def test_arrays_that_are_no_tensors_are_named(tmp_path):
    t = {name: tensor.numpy() for name, tensor in vit(**TINY).items()}
    with pytest.raises(UserError, match=r"holds arrays that are no tensors of torch \(cls_token"):
        load(tmp_path, {"model": t})
