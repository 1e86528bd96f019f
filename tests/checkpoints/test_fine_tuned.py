"""Fine-tuned runs: read with their classifier, evaluated, and written for other programs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from sslbench import plugins
from sslbench.backbones.config import SIZES, SWINS
from sslbench.benchmark import Splits
from sslbench.benchmarks.finetuning.recipes import recipe_for
from sslbench.benchmarks.topk import count_hits, ranked
from sslbench.checkpoints.convert import convert
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.errors import UserError
from sslbench.evaluation.loading import load_models
from sslbench.training.build import build_method
from sslbench.training.export import Trained, export
from tests.benchmarks.finetuning.small import MODEL, VALUES, folder_of_classes
from tests.methods.small import shake

HEADS = {
    "cls": {"token": "cls", "norm": "pretrained"},
    "mean": {"token": "mean", "norm": "pretrained"},
    "mean without norm": {"token": "mean", "norm": "new"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return folder_of_classes(tmp_path_factory.mktemp("data") / "four")


@pytest.fixture
def write(data: Splits, tmp_path: Path):
    """write("cls") -> the folder of a fine-tuned run with random weights, and its method."""

    def run(reads: str, start: str = MODEL, **views):
        method = VALUES["method"] | HEADS[reads] | {"views": views}
        recipe = recipe_for(VALUES | {"method": method}, load_backbone(start), data, 0)
        torch.manual_seed(3)
        network = shake(build_method(recipe, plugins.CLASSIFIERS)).eval()
        folder = tmp_path / "run"
        folder.mkdir()
        about = (6, 2, data.train.name, data.train.fingerprint)
        export(Trained(recipe, network, *about), folder / "weights.safetensors")
        return folder, network

    return run


def pooled(model: LoadedModel, images: Tensor) -> Tensor:
    """The features that the model's classifier reads, (B, D)."""
    (tokens,) = model.backbone.last_blocks(images, 1)
    if model.reads != "mean without norm":
        tokens = model.backbone.normed(tokens)
    return tokens.cls if model.reads == "cls" else tokens.patches.mean(1)


@pytest.mark.parametrize("reads", HEADS)
def test_a_run_comes_with_the_classifier_that_was_trained(write, reads: str) -> None:
    folder, network = write(reads, test_interpolation="bilinear", test_crop_ratio=1.0)
    model = load_backbone(folder)
    assert (model.reads, model.interpolation, model.crop_ratio) == (reads, "bilinear", 1.0)
    assert (model.transform.interpolation, model.transform.crop_ratio) == ("bilinear", 1.0)
    images = torch.randn(2, 3, 32, 32)
    found, expected = model.classifier(pooled(model, images)), network.logits(images)[""]
    if reads == "cls":  # in training, the last block is computed for it alone
        torch.testing.assert_close(found, expected)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("reads", HEADS)
def test_timm_computes_the_same_classes(write, tmp_path: Path, reads: str) -> None:
    folder, network = write(reads)
    path, report = convert(str(folder), "timm", tmp_path / "timm.pth")
    width, depth, heads, _ = SIZES["vit_nano"]
    theirs = VisionTransformer(
        32, 8, embed_dim=width, depth=depth, num_heads=heads, num_classes=4,
        global_pool="token" if reads == "cls" else "avg", fc_norm=reads == "mean without norm",
    ).eval()  # fmt: skip
    theirs.load_state_dict(torch.load(path, weights_only=True))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(theirs(images), network.logits(images)[""], atol=1e-5)
    assert not any("classifier" in key for keys in report.dropped.values() for key in keys)


@pytest.mark.parametrize("reads", ["mean", "mean without norm"])
def test_timms_swin_names_its_classifier_otherwise(
    write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reads: str
) -> None:
    """It has no norm of the mean, so a classifier with one is left out, which the report says."""
    monkeypatch.setitem(SWINS, "swin_nano", (8, (2, 2, 2, 2), (1, 2, 2, 4), 0.1))
    folder, network = write(reads, "random-init:swin_nano/4@224?seed=1")
    path, report = convert(str(folder), "timm", tmp_path / "timm.pth")
    sizes = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}
    written, placed = torch.load(path, weights_only=True), reads == "mean"
    theirs = SwinTransformer(224, **sizes, num_classes=4 if placed else 0).eval()
    theirs.load_state_dict(written)
    if placed:
        eps = load_backbone(folder).backbone.config.norm_eps
        for module in theirs.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = eps
        images = torch.randn(2, 3, 224, 224)
        with torch.no_grad():
            assert torch.allclose(theirs(images), network.logits(images)[""], atol=1e-5)
    lost = [k for keys in report.dropped.values() for k in keys if k.startswith("classifier.")]
    assert bool(lost) != placed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reads", "max"),
        ("interpolation", "nearest"),
        ("crop_ratio", 1.5),
        ("crop_ratio", "1"),
        ("norm_eps", 0),
        ("mean", [0.5]),
        ("std", [0.5, 0.5, 0]),
        ("resampling", ""),
        ("mean", 3),
        ("std", None),
    ],
)
def test_a_damaged_note_is_one_sentence(write, tmp_path: Path, name: str, value) -> None:
    folder, _ = write("cls")
    path, _ = convert(str(folder), "timm", tmp_path / "timm.pth")
    state = torch.load(path, weights_only=True)
    state._metadata[""]["sslbench"][name] = value
    torch.save(state, path)
    with pytest.raises(
        UserError, match=f"timm.pth is damaged: it says {name} .*; convert its source"
    ):
        load_backbone(path)


def test_safetensors_hold_the_whole_run(write, tmp_path: Path) -> None:
    folder, _ = write("mean without norm")
    path, _ = convert(str(folder), "safetensors", tmp_path / "copy.safetensors")
    first, second = load_backbone(folder), load_backbone(path)
    assert second.card.sha256 == first.card.sha256
    expected = first.classifier.state_dict()
    found = second.classifier.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_has_no_place_is_reported(write, tmp_path: Path) -> None:
    folder, _ = write("cls")
    _, report = convert(str(folder), "mmpretrain", tmp_path / "mm.pth")
    (lost,) = [keys for reason, keys in report.dropped.items() if "mmpretrain" in reason]
    assert {"classifier.linear.weight", "classifier.linear.bias"} <= set(lost)


def test_a_classifier_is_taken_from_a_run(write, tmp_path: Path) -> None:
    folder, _ = write("cls")
    models, broken = load_models([MODEL], folder)
    (model,) = models.values()
    assert not broken and model.reads == "cls"
    assert model.classifier.linear.out_features == 4


def test_a_run_without_a_classifier_is_refused_for_one(tmp_path: Path, write) -> None:
    folder, _ = write("cls")
    plain, _ = convert(MODEL, "safetensors", tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="has no classifier"):
        load_models([str(folder)], plain)


@pytest.mark.parametrize("reads", HEADS)
def test_what_was_written_for_timm_is_read_back_with_its_classifier(
    write, data: Splits, tmp_path: Path, reads: str
) -> None:
    """Though neither a mean nor [CLS], crop, interpolation, mean or std can be told by tensors."""
    folder, network = write(reads, test_interpolation="bilinear", test_crop_ratio=1.0)
    path, _ = convert(str(folder), "timm", tmp_path / "timm.pth")
    (run,), (copy,) = (load_models([str(p)], p)[0].values() for p in (folder, path))
    assert copy.reads == reads and copy.transform == run.transform
    images = torch.stack([run.transform(data.test[i][0]) for i in range(len(data.test))])
    with torch.no_grad():
        logits = copy.classifier(pooled(copy, images))
        expected = network.logits(images)[""]
    assert (logits - expected).abs().max() <= 1e-6
    labels = torch.tensor([label for _, label in data.test])
    assert count_hits(ranked(logits), labels) == count_hits(ranked(expected), labels)
