"""Fine-tuned models of others as classifiers: logits are those of the official model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import save_file
from timm.models.beit import Beit
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sslbench.benchmark import FeatureSpec
from sslbench.checkpoints.classifier import FINE_TUNED
from sslbench.checkpoints.families import mmpretrain, to_theirs
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.errors import UserError
from sslbench.evaluation.features import tap
from sslbench.evaluation.loading import load_models
from tests.checkpoints.test_official import tiny_others
from tests.checkpoints.test_transformers import PLAIN, SMALL, SWIN

__all__ = ["tiny_others"]

CLASSES = 5
NANO: dict[str, Any] = {"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": CLASSES}
RELATIVE = {"use_abs_pos_emb": False, "use_rel_pos_bias": True, "init_values": 0.3}
BEIT = hf.BeitConfig(
    **SMALL, layer_scale_init_value=0.3, use_relative_position_bias=True, num_labels=CLASSES
)
NORM, LINEAR = ("fc_norm.weight", "fc_norm.bias"), ("head.weight", "head.bias")


def random(model: nn.Module) -> nn.Module:
    """`model` with random weights in eval mode; an embedding so small that every eps matters."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            near = float("norm" in name and name.endswith("weight"))
            spread = 0.3 if name.startswith(("head.", "classifier.")) else 0.02
            tensor.copy_(near + spread * torch.randn_like(tensor))
    return model.eval()


def vit(**kind: Any) -> nn.Module:
    return random(VisionTransformer(32, 16, **NANO, **kind))


MODELS = {  # -> the official model, what its classifier reads
    "DeiT": (lambda: vit(), "cls"),
    "MAE": (lambda: vit(global_pool="avg", fc_norm=True), "mean without norm"),
    "BEiT": (lambda: random(Beit(32, 16, **NANO, **RELATIVE)), "mean without norm"),
    "BEiT, CLS": (lambda: random(Beit(32, 16, **NANO, **RELATIVE, global_pool="token")), "cls"),
}


def tuned(place: Path | str) -> LoadedModel:
    """The model that `evaluate --model place --classifier place` evaluates."""
    path = Path(str(place).partition("?")[0])
    models, broken = load_models([str(place)], path)
    assert not broken
    return next(iter(models.values()))


@torch.no_grad()
def logits(model: LoadedModel, images: Tensor) -> Tensor:
    """The classifier on the features that the linear benchmark reads."""
    spec = FeatureSpec(1, model.reads)
    return model.classifier(tap(model.backbone, images, spec))


@torch.no_grad()
def check_logits(model: LoadedModel, official: Any, side: int = 32) -> None:
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    expected = official(images)
    expected = getattr(expected, "logits", expected)
    assert expected.std() > 0.1
    assert (logits(model, images) - expected).abs().max() <= 1e-5
    assert model.classifier_name == FINE_TUNED


@pytest.mark.parametrize("kind", MODELS)
def test_logits_are_those_of_the_official_model(tmp_path: Path, kind: str) -> None:
    build, reads = MODELS[kind]
    official = build()
    torch.save({"model": official.state_dict(), "epoch": 99}, tmp_path / "tuned.pth")
    model = tuned(tmp_path / "tuned.pth")
    assert model.reads == reads
    check_logits(model, official)


def test_a_model_without_the_option_is_what_it_was(tmp_path: Path) -> None:
    torch.save(vit().state_dict(), tmp_path / "tuned.pth")
    model = load_backbone(tmp_path / "tuned.pth")
    assert model.classifier is None and not model.reads
    assert model.report.dropped["a fine-tuned classifier"] == LINEAR


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_folder_of_timm_says_what_is_pooled_and_how_images_are_cropped(
    tmp_path: Path, pool: str
) -> None:
    official = vit(global_pool=pool, fc_norm=False)
    save_file(official.state_dict(), tmp_path / "model.safetensors")
    cfg = {"mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9, "interpolation": "bilinear"}
    about = {"architecture": "vit", "global_pool": pool, "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(about))
    model = tuned(tmp_path)
    assert (model.crop_ratio, model.interpolation, model.mean) == (0.9, "bilinear", (0.5,) * 3)
    check_logits(model, official)


def test_a_pooling_that_is_not_read_is_named(tmp_path: Path) -> None:
    save_file(vit().state_dict(), tmp_path / "model.safetensors")
    about = {"architecture": "vit", "global_pool": "max", "pretrained_cfg": {}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    load_backbone(tmp_path)
    with pytest.raises(UserError, match="reads 'max', as the settings beside it say"):
        tuned(tmp_path)


def test_timms_swin(tmp_path: Path) -> None:
    sizes = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}
    official = random(SwinTransformer(**sizes, num_classes=CLASSES))
    torch.save(official.state_dict(), tmp_path / "swin.pth")
    check_logits(tuned(tmp_path / "swin.pth"), official, 224)


@pytest.mark.parametrize(
    ("official", "side"),
    [
        (hf.ViTForImageClassification(hf.ViTConfig(**SMALL, num_labels=CLASSES)), 32),
        (hf.BeitForImageClassification(BEIT), 32),
        (hf.Dinov2ForImageClassification(hf.Dinov2Config(**PLAIN, num_labels=CLASSES)), 32),
        (hf.SwinForImageClassification(hf.SwinConfig(**SWIN, num_labels=CLASSES)), 224),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_models_of_transformers(tmp_path: Path, official: Any, side: int) -> None:
    random(official).save_pretrained(tmp_path)
    check_logits(tuned(tmp_path), official, side)


@pytest.mark.parametrize(
    ("kind", "head"), [("DeiT", "head.layers.head"), ("BEiT", "head.fc"), ("MAE", "head.fc")]
)
def test_models_of_mmpretrain(tmp_path: Path, kind: str, head: str) -> None:
    """Under its names; it normalises the mean patch by `ln2` (vision_transformer.py, beit.py)."""
    official = MODELS[kind][0]()
    tensors = official.state_dict()
    classifier = {f"{head}.{name}": tensors.pop(f"head.{name}") for name in ("weight", "bias")}
    ours = {k.replace("patch_embed.proj.", "patch_embed."): v for k, v in tensors.items()}
    theirs = {f"backbone.{k}": v for k, v in to_theirs(ours, mmpretrain.VIT_NAMES).items()}
    torch.save({"state_dict": theirs | classifier}, tmp_path / "mm.pth")
    check_logits(tuned(tmp_path / "mm.pth"), official)


def test_options_of_the_model_choose_its_classifier_too(tmp_path: Path) -> None:
    first, second = vit(), vit()
    for tensor in second.state_dict().values():
        tensor.mul_(1.5)
    saved = {"model": first.state_dict(), "model_ema": second.state_dict()}
    torch.save(saved, tmp_path / "x.pth")
    check_logits(tuned(tmp_path / "x.pth"), first)
    check_logits(tuned(f"{tmp_path / 'x.pth'}?key=model_ema"), second)


@pytest.mark.parametrize(("side", "norm", "ratio"), [(384, True, 1.0), (384, False, None)])
def test_large_images_are_not_cropped_for_beit_and_mae(
    tmp_path: Path, side: int, norm: bool, ratio: float | None
) -> None:
    """DeiT crops them as those of 224 pixels: deit/datasets.py, eval_crop_ratio."""
    pool = {"global_pool": "avg", "fc_norm": True} if norm else {}
    official = random(VisionTransformer(side, 32, **NANO, **pool))
    torch.save(official.state_dict(), tmp_path / "x.pth")
    model = tuned(tmp_path / "x.pth")
    assert (model.crop_ratio, model.image_size) == (ratio, side)


def test_images_have_the_size_of_the_fine_tuning(tmp_path: Path) -> None:
    official = random(VisionTransformer(512, 64, **NANO))
    torch.save(official.state_dict(), tmp_path / "x.pth")
    assert load_backbone(tmp_path / "x.pth").image_size == 224
    assert tuned(tmp_path / "x.pth").image_size == 512


DISTILLED = {"dist_token": torch.ones(1, 1, 16), "head_dist.weight": torch.ones(CLASSES, 16)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (DISTILLED, "is a distilled DeiT: its dist_token has no place"),
        ({"head_dist.weight": torch.ones(CLASSES, 16)}, r"has head_dist\.weight, which is not"),
        ({"head.bias": None}, r"lacks its linear\.bias"),
        ({"head.weight": None, "head.bias": None}, "has no classifier; give a fine-tuned run"),
        ({"head.bias": torch.full((CLASSES,), torch.nan)}, r"its linear\.bias holds values that"),
        ({"head.bias": torch.ones(3)}, "is damaged: .* size mismatch for linear.bias"),
        ({"head.weight": torch.ones(CLASSES, 16, 1)}, r"no linear layer: its weight is \(5, 16, 1"),
    ],
)
def test_what_is_no_classifier_is_one_sentence(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    tensors = vit().state_dict() | change
    tensors = {k: v for k, v in tensors.items() if v is not None}
    torch.save({"model": tensors}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=message) as caught:
        tuned(tmp_path / "x.pth")
    assert str(caught.value).count(". ") == 0
