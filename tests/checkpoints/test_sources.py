"""What users write to name weights: labels, options, and the card that keeps both."""

import hashlib
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sslbench import plugins
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.modules import load_module, needed_identity
from sslbench.checkpoints.sources import named
from sslbench.errors import UserError
from sslbench.evaluation import loading
from sslbench.recipes.recipe import IMAGENET_MEAN
from sslbench.storage.layout import WEIGHTS
from sslbench.storage.weights import read_weights, save_weights
from tests.checkpoints.layouts import vit
from tests.checkpoints.test_load import HEAD, TOKENIZER, write_run
from tests.checkpoints.test_official import TINY


@pytest.mark.parametrize(
    "text, expected",
    [
        ("mine=x.pth", ("mine", "x.pth")),
        ("my model = 2=x.pth", ("my model", " 2=x.pth")),
        ("mine=x.pth?key=student", ("mine", "x.pth?key=student")),
        ("mine=random-init:vit_nano/4@16?seed=1", ("mine", "random-init:vit_nano/4@16?seed=1")),
        ("x.pth?key=student", ("", "x.pth?key=student")),
        ("random-init:vit_nano/4@16?seed=1", ("", "random-init:vit_nano/4@16?seed=1")),
        ("runs/lr=0.1/x.pth", ("", "runs/lr=0.1/x.pth")),
        ("~/a=b", ("", "~/a=b")),
        ("timm:vit_tiny_patch16_224", ("", "timm:vit_tiny_patch16_224")),
        ("=x.pth", ("", "=x.pth")),
    ],
)
def test_a_label_is_told_from_a_path(text, expected):
    assert named(text) == expected


def test_what_exists_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(vit(**TINY), "lr=1.pth")
    assert named("lr=1.pth") == ("", "lr=1.pth")
    assert named("lr=1.pth?arch=ViT-Nano/16") == ("", "lr=1.pth?arch=ViT-Nano/16")
    for text in ("mine=", "a\tb=x.pth"):
        with pytest.raises(UserError, match="is not of the form NAME=PATH"):
            named(text)


@pytest.mark.parametrize("name", ["a?b=c.pth", "a?key=student.pth", "x?.pth", "a%20b=1.pth"])
def test_a_path_may_hold_what_begins_options(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    torch.save(vit(**TINY), name)
    assert named(f"mine={name}?mean=0,0,0") == ("mine", f"{name}?mean=0,0,0")
    model = load_backbone(f"{name}?mean=0,0.25,0&arch=ViT-Nano/16")
    assert model.mean == (0, 0.25, 0)
    assert load_backbone(model.source).mean == model.mean
    assert load_backbone(name).mean == IMAGENET_MEAN


def test_a_card_keeps_what_the_user_wrote_and_the_files_hash(tmp_path, monkeypatch):
    """R3: the hash is the one that `sha256sum` prints."""
    monkeypatch.chdir(tmp_path)
    torch.save(vit(**TINY), "x.pth")
    write_run(tmp_path / "run", name="dino", **HEAD)
    files = {"./x.pth?arch=ViT-Nano/16": "x.pth", "run": f"run/{WEIGHTS}"}
    models, broken = loading.load_models([f"mine={source}" for source in files], None)
    assert not broken
    for model, (source, file) in zip(models.values(), files.items(), strict=True):
        sha = hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
        card = model.card
        assert (card.label, card.source, card.file_sha256) == ("mine", source, sha)
        assert load_backbone(model.source).card.sha256 == card.sha256
    torch.save({k: v + 1 for k, v in vit(**TINY).items()}, "x.pth")
    changed = hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()
    assert load_backbone("x.pth").card.file_sha256 == changed


def flipped(tensors):
    name = next(k for k in tensors if k.endswith("weight"))
    raw = tensors[name].clone()
    raw.view(torch.uint8).view(-1)[1] ^= 1
    return {**tensors, name: raw}


def replace_tensors(path):
    with safe_open(path, "pt") as file:
        card = file.metadata()
    save_file(flipped(load_file(path)), path, card)


def test_what_a_converted_tokenizer_is_is_computed(tmp_path):
    """P24: its hash is part of the identity of every run that was given it."""
    write_run(tmp_path, group=plugins.TOKENIZERS, **TOKENIZER)
    path = tmp_path / WEIGHTS
    tensors, card = read_weights(path)
    sha = save_weights(path, tensors, {**card, "steps": 0})
    for source in (tmp_path, path):
        assert needed_identity(source, plugins.TOKENIZERS) == sha
    replace_tensors(path)
    with pytest.raises(UserError, match="do not match the SHA-256 in its card; restore"):
        needed_identity(tmp_path, plugins.TOKENIZERS)


@pytest.mark.parametrize("kind", ["run", "tokenizer", "converted"])
def test_the_sha256_of_a_card_is_computed_not_believed(tmp_path, kind):
    """P24: a flipped bit under an intact card."""
    path = tmp_path / WEIGHTS
    if kind == "tokenizer":
        write_run(tmp_path, group=plugins.TOKENIZERS, **TOKENIZER)
        read = lambda: load_module(tmp_path, plugins.TOKENIZERS)  # noqa: E731
    else:
        write_run(tmp_path, name="dino", **HEAD)
        read = lambda: load_backbone(path)  # noqa: E731
    if kind == "converted":
        from sslbench.checkpoints.convert import convert

        path, _ = convert(str(tmp_path), "safetensors", tmp_path / "y.safetensors")
    read()
    replace_tensors(path)
    with pytest.raises(UserError, match="do not match the SHA-256 in its card; restore"):
        read()


def test_an_option_given_twice_is_refused():
    with pytest.raises(UserError, match="gives one option twice"):
        load_backbone("x.pth?mean=0,0,0&mean=1,1,1")


@pytest.mark.parametrize("option", ["mean=0,0,0", "as=unknown", "std=1,1,1"])
def test_a_run_says_itself_what_it_is(tmp_path, option):
    write_run(tmp_path, name="dino", **HEAD)
    with pytest.raises(UserError, match=rf"is of a run, which says itself .*leave out \?{option}"):
        load_backbone(f"{tmp_path}?{option}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "8"), ("epochs", float("nan")), ("effective_epochs", -1), ("steps", [1]),
        ("tokens", "x"), ("data", 5), ("needs", "x"), ("recipe", "x"),
    ],
)  # fmt: skip
def test_a_card_without_a_checksum_is_checked_itself(tmp_path, key, value):
    """Runs of version 0.1.0 have none."""
    write_run(tmp_path, name="dino", **HEAD)
    path = tmp_path / WEIGHTS
    tensors, card = read_weights(path)
    save_file(tensors, path, {"sslbench": json.dumps(card)})
    assert load_backbone(path).card.epochs == round(card["epochs"], 2)
    save_file(tensors, path, {"sslbench": json.dumps({**card, key: value})})
    wanted = "does not say how it was trained" if key == "recipe" else f"says {key}="
    with pytest.raises(UserError, match=wanted):
        load_backbone(path)
