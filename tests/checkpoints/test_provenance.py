"""What a checkpoint is: its own word, its hash, the user's word, or its name, in that order."""

import argparse
import hashlib
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from sslbench.checkpoints import download, others, provenance
from sslbench.checkpoints.convert import convert
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.starting import read_start
from sslbench.errors import UserError
from sslbench.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from tests.checkpoints.layouts import NANO, TINY_RELEASE, beit, prefixed, vit
from tests.checkpoints.test_official import TINY, full, load, tiny_others

__all__ = ["tiny_others"]

HALF = (0.5,) * 3
BEIT = {"rel_pos_bias": True, "epochs": 800, "seed": 0}


@pytest.fixture
def tiny(monkeypatch):
    """TINY_RELEASE is the one release known, with a published hash where one is given."""

    def publish(sha256=""):
        known = (replace(TINY_RELEASE, sha256=sha256),)
        for module in (download, provenance):
            monkeypatch.setattr(module, "RELEASES", known)

    publish()
    return publish


def trained_beit(**args):
    t = beit(**NANO, heads=2) | {"lm_head.weight": torch.ones(9, 16), "lm_head.bias": torch.ones(9)}
    return {"model": t, "epoch": 799, "args": argparse.Namespace(**BEIT, **args)}


@pytest.mark.parametrize("switch, mean", [(True, IMAGENET_MEAN), (False, HALF), (None, HALF)])
def test_a_training_checkpoint_of_beit_tells_its_own_truth(tmp_path, switch, mean):
    """Its `epoch` counts from 0."""
    given = {} if switch is None else {"imagenet_default_mean_and_std": switch}
    model = load(tmp_path, trained_beit(**given))
    card = model.card
    assert (card.method, card.epochs, card.effective_epochs, card.seed) == ("beit", 800, 800, 0)
    assert (card.identified, card.recipe, card.pretrain_data) == ("checkpoint", "", "")
    assert model.mean == mean and (model.std == IMAGENET_STD) == (mean == IMAGENET_MEAN)


def test_epochs_done_and_planned(tmp_path):
    saved = trained_beit() | {"epoch": np.int64(99)}
    model = load(tmp_path, saved)
    assert model.card.epochs == 100
    assert "saved after 100 of 800 epochs" in model.report.notes
    fine_tuned = trained_beit(finetune="/private/beit.pth")
    model = load(tmp_path, fine_tuned, "y.pth")
    assert model.card.epochs == 0 and "private" not in repr(model.report)


def test_the_args_of_others_tell_their_method(tmp_path):
    names = {
        "mae": {"model": "mae_vit_base_patch16"},
        "deit": {"model": "deit_small_patch16_224"},
        "ibot": {"pred_ratio": [0.3], "local_crops_number": 0},
        "dino": {"use_bn_in_head": False, "local_crops_number": 8},
    }
    for method, args in names.items():
        args = argparse.Namespace(**args, epochs=10)
        model = load(tmp_path, {"model": vit(**TINY), "epoch": 9, "args": args}, f"{method}_.pth")
        done = 9 if method in ("ibot", "dino") else 10
        assert (model.card.method, model.card.epochs) == (method, done)
    cfg = {"mean": (0.1, 0.2, 0.3), "std": [0.5, 0.5, 0.5]}
    model = load(tmp_path, {"state_dict": vit(**TINY), "pretrained_cfg": cfg}, "timm.pth")
    assert (model.mean, model.std) == ((0.1, 0.2, 0.3), HALF)


def test_what_a_file_does_not_say_is_said_in_its_source(tmp_path):
    model = load(tmp_path, {"model": vit(**TINY)}, query="?mean=0,0.5,1&std=9,9,9e-1")
    assert (model.mean, model.std) == ((0, 0.5, 1), (9, 9, 0.9))
    again = load_backbone(model.source)
    assert (again.mean, again.std) == (model.mean, model.std)
    path, _ = convert(model.source, "safetensors", tmp_path / "y.safetensors")
    assert load_backbone(path).mean == model.mean
    assert load_backbone(f"{path}?mean=0,0,0").mean == (0, 0, 0)
    for wrong in (
        "std=0,1,1", "mean=1,2", "mean=nan,0,0", "mean=1e999,0,0", "std=a,b,c", "std=1e-320,1,1",
        "mean=123.675,116.28,103.53", "std=58.395,57.12,57.375", "std=-1,1,1",
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"\?(mean|std)=.* must be three finite numbers"):
            load_backbone(f"{tmp_path / 'x.pth'}?{wrong}")


def test_a_name_only_suggests(tmp_path, tiny, caplog):
    """Random weights under the name of a release."""
    model = load(tmp_path, vit(**TINY), "tiny.pth")
    card = model.card
    assert (card.identified, card.method, card.recipe) == ("file name", "dino", "tiny")
    assert "is taken for tiny by its file name, not verified" in caplog.text
    assert any("by its file name, not verified" in note for note in model.report.notes)
    path, _ = convert(model.source, "safetensors", tmp_path / "y.safetensors")
    caplog.clear()
    assert load_backbone(path).card.identified == "file name"  # converting proves nothing
    assert "tiny by the name of the file that it was converted from, not verified" in caplog.text
    cleared = load_backbone(f"{tmp_path / 'tiny.pth'}?as=unknown").card
    assert (cleared.identified, cleared.method, cleared.epochs) == ("", "unknown", 0)
    again = load_backbone(f"{path}?as=unknown").card
    assert (again.identified, again.method, again.recipe) == ("", "unknown", "")


def test_a_name_is_warned_of_once(tmp_path, tiny, caplog):
    """`pretrain --init` reads two networks to choose its settings and both again to start."""
    networks = {part: prefixed(vit(**TINY), "backbone.") for part in ("student", "teacher")}
    torch.save(networks, tmp_path / "tiny.pth")
    for _ in range(2):
        assert "student.backbone" in read_start(str(tmp_path / "tiny.pth")).others
    convert(str(tmp_path / "tiny.pth"), "timm", tmp_path / "z.pth")
    assert [r.message for r in caplog.records if "not verified" in r.message] == [
        f"{tmp_path}/tiny.pth is taken for tiny by its file name, not verified; "
        "add ?as=unknown to clear that."
    ]


def test_timms_names_are_not_verified_either(monkeypatch, caplog):
    peer = timm.create_model("vit_small_patch16_224", embed_dim=16, depth=2, num_heads=2)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: peer)
    others._warn_once.cache_clear()  # another test may have read them
    for name, method in (("vit_small_patch16_224.dino", "dino"), ("vit_small_patch16_224", "")):
        caplog.clear()
        card = load_backbone(f"timm:{name}").card
        known = "file name" if method else ""
        assert (card.method, card.identified) == (method or "unknown", known)
        assert ("by timm's name for it, not verified" in caplog.text) == bool(method)


def test_a_published_hash_proves_it(tmp_path, tiny):
    torch.save(vit(**TINY), tmp_path / "mine.pth")
    sha = hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()
    for published in (sha, sha[:8]):
        tiny(published)
        card = load_backbone(tmp_path / "mine.pth").card
        assert (card.identified, card.recipe, card.epochs) == ("hash", "tiny", 10)
    tiny("0" * 64)
    assert load_backbone(tmp_path / "mine.pth").card.identified == ""


def test_the_user_says_what_it_is(tmp_path, tiny):
    card = load(tmp_path, vit(**TINY), query="?as=tiny").card
    assert (card.identified, card.recipe, card.effective_epochs) == ("user", "tiny", 38.4)
    with pytest.raises(UserError, match="names an unknown release 'tinny': did you mean 'tiny'"):
        load_backbone(f"{tmp_path / 'x.pth'}?as=tinny")


def test_the_file_counts_more_than_its_name(tmp_path, tiny):
    model = load(tmp_path, full("ibot_loss", second="shared"), "tiny.pth")
    card = model.card
    assert (card.identified, card.method, card.epochs) == ("checkpoint", "ibot", 40)
    assert (card.recipe, card.pretrain_data) == ("", "")
    (note,) = (n for n in model.report.notes if "its name says tiny" in n)
    assert "the method ibot, not dino and 40 epochs, not 10" in note
    same = load(tmp_path, full("dino_loss") | {"epoch": 10}, "tiny.pth").card
    assert (same.identified, same.pretrain_data, same.epochs) == ("file name", "IN-1K", 10)


def test_a_name_that_its_hash_disproves_is_not_believed(tmp_path, tiny):
    tiny("0123456789")
    model = load(tmp_path, vit(**TINY), "tiny.pth")
    assert (model.card.identified, model.card.method) == ("", "unknown")
    assert any("whose SHA-256 starts with 0123456789: it is not" in n for n in model.report.notes)


def test_the_statistics_of_a_file_count_more_than_its_releases(tmp_path, tiny):
    saved = {"model": vit(**TINY), "args": argparse.Namespace(mean=HALF, std=HALF)}
    model = load(tmp_path, saved, "tiny.pth")
    assert model.mean == HALF and model.card.identified == "file name"
    assert any("not those of its release" in note for note in model.report.notes)
    assert load_backbone(f"{tmp_path / 'tiny.pth'}?mean=0,0,0").mean == (0, 0, 0)
