"""Sources of weights: which are understood, what they give, and how the others are refused."""

import os
from dataclasses import replace

import pytest
import torch

from sslbench import plugins
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints.load import load_backbone, random_source, read_card
from sslbench.checkpoints.modules import load_module
from sslbench.errors import UserError
from sslbench.recipes.load import recipe_from_dict
from sslbench.storage.layout import WEIGHTS
from sslbench.storage.weights import read_weights, save_weights, weights_sha256
from sslbench.training.build import build_method
from tests.methods.small import HEAD

RANDOM = "random-init:vit_nano/4@16"
BACKBONE = {"name": "vit_nano", "patch_size": 4, "image_size": 16, "drop_path": 0.5}
DATA = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def write_run(folder, change=lambda tensors: tensors, group=plugins.METHODS, **method):
    """A run directory as the trainer leaves it; `change` edits the exported tensors."""
    recipe = recipe_from_dict({"method": method, "backbone": BACKBONE, "data": DATA}, group)
    model = build_method(recipe, group)
    tensors = {f"backbone.{k}": v for k, v in model.backbone().state_dict().items()}
    if (head := model.head()) is not None:
        tensors |= {f"head.{k}": v for k, v in head.state_dict().items()}
    card = {"recipe": recipe.to_dict(), "data": "shapes", "steps": 7, "epochs": 1.2345}
    save_weights(folder / WEIGHTS, change(tensors), {**card, "effective_epochs": 4.9})
    return model


@pytest.fixture
def run(tmp_path):
    write_run(tmp_path, name="dino", **HEAD)
    return tmp_path


def test_random_init_depends_on_its_seed_alone():
    torch.manual_seed(5)
    first = load_backbone(f"{RANDOM}?seed=1")
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)  # the global generator was left alone
    again, other = load_backbone(f"{RANDOM}?seed=1"), load_backbone(f"{RANDOM}?seed=2")
    assert again.card.sha256 == first.card.sha256 != other.card.sha256
    assert first.card.sha256 == weights_sha256(first.backbone.state_dict())
    assert load_backbone(RANDOM).card.sha256 == load_backbone(f"{RANDOM}?seed=0").card.sha256


def test_random_init_is_ready_for_evaluation():
    model = load_backbone(f"{RANDOM}?seed=3")
    assert (model.card.method, model.card.arch) == ("random-init", "ViT-Nano/4")
    assert (model.card.seed, model.image_size, model.poolings) == (3, 16, ("cls", "mean"))
    assert not model.backbone.training and model.head is None
    assert model.backbone(torch.randn(1, 3, 16, 16)).cls.shape == (1, 16)


def test_a_loaded_model_knows_what_to_load_again(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    for given in (run, run.name, f"{run.name}/{WEIGHTS}"):
        model = load_backbone(given)
        again = load_backbone(model.source).card
        assert replace(again, source=str(given)) == model.card
        assert model.source == str(run.parent / given)
        assert model.card.source == str(given)
    monkeypatch.chdir(run)
    assert load_backbone(WEIGHTS).card.source == WEIGHTS
    assert load_backbone(RANDOM).source == RANDOM
    assert load_backbone("pixels:32").source == "pixels:32"


def test_random_source_is_understood():
    source = random_source(BackboneConfig("vit_nano", 4, 16), seed=9)
    assert load_backbone(source).card.source == source == f"{RANDOM}?seed=9"


@pytest.mark.parametrize(
    "config",
    [
        BackboneConfig("vit_nano", 4, 16, layer_scale=0.5, registers=3),
        BackboneConfig("beit_nano", 4, 16, positions="shared relative", layer_scale=1e-5),
        BackboneConfig("beit_nano", 4, 16, positions="relative"),
        BackboneConfig("swin_nano", 4, 64, window=2),
        BackboneConfig("swin_nano", 4, 64, norm_eps=1e-5),
    ],
)
def test_every_backbone_has_a_random_source(config):
    """It names the whole architecture; drop path is for training and left out."""
    found = load_backbone(random_source(config, seed=1)).backbone.config
    assert found == replace(config, drop_path=0.0)


def test_pixels_need_no_weights():
    model = load_backbone("pixels:16")
    assert (model.card.method, model.image_size, model.poolings) == ("pixels", 16, ("cls",))
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(model.backbone(images).cls, images.flatten(1))


@pytest.mark.parametrize(
    "source, message",
    [
        ("random-init:vit_nano", "not of the form random-init:"),
        ("random-init:vit_nano/4@16?seed=x", "not of the form random-init:"),
        ("random-init:vit_nano/4@16?windw=7", "not of the form random-init:"),
        ("random-init:vit_nano/4@16?seed=-1", "not of the form random-init:"),
        ("random-init:vit_nano/4@16?norm_eps=nan", "norm_eps=nan: must be a finite number"),
        ("random-init:vit_nano/4@16?seed", "not of the form random-init:"),
        ("ibot_vits6", r"does not exist .did you mean 'ibot_vits16'"),
        ("random-init:vit_nanoo/4@16", "did you mean 'vit_nano'"),
        ("random-init:vit_nano/5@16", "image_size 16 is not a multiple"),
        ("random-init:vit_nano/0@16", "patch_size"),
        ("pixels:big", "not of the form pixels:64"),
        ("pixels:12", "not of the form pixels:64, a multiple of 8"),
        ("pixels:0", "not of the form pixels:64"),
        ("no/such/run", "'no/such/run' does not exist"),
        ("~nobody-of-this-name/x.pth", "is in the home folder of an unknown user"),
        ("x.pth?key=", "'x.pth.key=' gives key no value"),
    ],
)
def test_sources_that_are_none_are_refused(source, message):
    with pytest.raises(UserError, match=message):
        load_backbone(source)


def test_a_run_gives_the_exported_weights(run):
    model = load_backbone(run)
    method = write_run(run.parent / "again", name="dino", **HEAD)
    images = torch.randn(2, 3, 16, 16)
    cls = method.teacher["backbone"](images).cls
    assert torch.equal(model.backbone(images).cls, cls)
    assert torch.equal(model.head(cls), method.teacher["head"](cls))
    assert not model.backbone.training and not model.head.training
    assert (model.mean, model.std) == (DATA["mean"], DATA["std"])
    card = model.card
    assert (card.method, card.arch, card.pretrain_data) == ("dino", "ViT-Nano/4", "shapes")
    assert (card.steps, card.epochs, card.effective_epochs) == (7, 1.23, 4.9)
    assert card.sha256 == read_card(run)["sha256"]
    assert card.source == str(run)
    assert replace(load_backbone(run / WEIGHTS).card, source=card.source) == card


def test_options_count_for_a_run_too(run):
    assert load_backbone(f"{run}?arch=vit-nano/4").source == f"{run}?arch=vit-nano%2F4"
    with pytest.raises(UserError, match="holds ViT-Nano/4, not the ViT-B/16 that was asked for"):
        load_backbone(f"{run}?arch=ViT-B/16")
    with pytest.raises(UserError, match=r"is of a run, .* leave out .key=student"):
        load_backbone(f"{run}?key=student")


def test_a_run_of_beit_brings_its_mask_token_and_no_head(tmp_path):
    write_run(tmp_path / "tokenizer", group=plugins.TOKENIZERS, **TOKENIZER)
    method = {"name": "beit", "views": {"size": 16, "token_size": 8}}
    values = {"method": method, "backbone": BACKBONE}
    recipe = recipe_from_dict(values | {"needs": {"tokenizer": str(tmp_path / "tokenizer")}})
    student = build_method(recipe).student
    tensors = {f"backbone.{k}": v for k, v in student.state_dict().items()}
    card = {"recipe": recipe.to_dict(), "data": "shapes", "steps": 1}
    save_weights(tmp_path / WEIGHTS, tensors, {**card, "epochs": 1.0, "effective_epochs": 1.0})
    model = load_backbone(tmp_path)
    assert torch.equal(model.backbone.mask_token, student.mask_token)
    assert model.head is None and model.poolings == ("cls", "mean", "mean without norm")


TOKENIZER = {"name": "dvae", "num_codes": 5, "downsample": 2, "hidden_dim": 32}


def test_a_module_comes_back_frozen_in_eval_mode(tmp_path):
    tokenizer = write_run(tmp_path, group=plugins.TOKENIZERS, **TOKENIZER)
    loaded = load_module(tmp_path, plugins.TOKENIZERS)
    pixels = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded.encode(pixels), tokenizer.encode(pixels))
    assert not loaded.training


def drop(key):
    return lambda tensors: {k: v for k, v in tensors.items() if k != key}


def test_every_missing_and_unexpected_key_is_named(tmp_path):
    write_run(tmp_path, drop("backbone.norm.weight"), name="dino", **HEAD)
    with pytest.raises(UserError, match=r"missing \['norm.weight'\], unexpected none"):
        load_backbone(tmp_path)
    extra = {"backbone.stray": torch.zeros(1)}
    write_run(tmp_path, lambda tensors: tensors | extra, name="dino", **HEAD)
    with pytest.raises(UserError, match=r"missing none, unexpected \['stray'\]"):
        load_backbone(tmp_path)
    write_run(tmp_path, drop("head.last_layer.weight_v"), name="dino", **HEAD)
    with pytest.raises(UserError, match=r"missing \['last_layer.weight_v'\]"):
        load_backbone(tmp_path)


def test_a_wrong_shape_is_named(tmp_path):
    wrong = {"backbone.norm.weight": torch.ones(3)}
    write_run(tmp_path, lambda tensors: tensors | wrong, name="dino", **HEAD)
    with pytest.raises(UserError, match=r"do not fit the architecture: [\s\S]*norm.weight"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 0.5])
def test_truncated_weights_are_refused(run, kept):
    data = (run / WEIGHTS).read_bytes()
    (run / WEIGHTS).write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match="truncated or damaged"):
        load_backbone(run)


def test_files_that_are_no_run_are_refused(tmp_path):
    with pytest.raises(UserError, match=f"holds no {WEIGHTS}"):
        load_backbone(tmp_path)
    (tmp_path / "x.pth").write_bytes(b"x")
    with pytest.raises(UserError, match=r"x.pth is no file of torch.save but a text"):
        load_backbone(tmp_path / "x.pth")
    (tmp_path / "x.safetensors").write_text("<html>")
    with pytest.raises(UserError, match=r"x.safetensors is a web page"):
        load_backbone(tmp_path / "x.safetensors")
    save_weights(tmp_path / WEIGHTS, {"backbone.a": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="holds no ViT, BEiT or Swin"):
        load_backbone(tmp_path)
    with pytest.raises(UserError, match="does not say how it was trained"):
        load_module(tmp_path, plugins.TOKENIZERS)


def test_the_mask_token_is_a_choice():
    config = BackboneConfig("vit_nano", 4, 16)
    keys = [set(build_backbone(config, flag).state_dict()) for flag in (False, True)]
    assert keys[1] - keys[0] == {"mask_token"}


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("backbone", "image_size", 8192), ("method", "out_dim", 2**20)],
)
def test_a_card_that_tells_of_a_giant_is_one_sentence(dino_run, tmp_path, section, name, value):
    """S1: nothing is allocated for what the card says and the tensors do not have."""
    tensors, card = read_weights(dino_run / WEIGHTS)
    card["recipe"][section][name] = value
    save_weights(tmp_path / WEIGHTS, tensors, {k: v for k, v in card.items() if k != "sha256"})
    with pytest.raises(UserError, match=r"weights .* do not fit the architecture"):
        load_backbone(tmp_path)


def test_pipes_beside_and_in_place_of_weights_are_not_opened(dino_run, tmp_path):
    for name in (
        WEIGHTS,
        "model.safetensors",
        "x.pth",
        "config.json",
        "model.safetensors.index.json",
    ):
        os.mkfifo(tmp_path / name)
    for place in (tmp_path, *tmp_path.iterdir()):
        with pytest.raises(UserError):
            load_backbone(place)
