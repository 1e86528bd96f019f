"""Weights fitted to another image size, patch or kind of positions, and what cannot be fitted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sslbench.backbones.beit_vit import splined_table
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.backbones.resize import fill, fitted_to
from sslbench.errors import UserError

VIT = BackboneConfig("vit_nano", 8, 32, 0.0)
SHARED = BackboneConfig("beit_nano", 8, 32, 0.0, positions="shared relative", layer_scale=0.1)


def weights(config: BackboneConfig, mask_token: bool = False) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    backbone = build_backbone(config, mask_token)
    return {k: v + 0.1 * torch.randn_like(v) for k, v in backbone.state_dict().items()}


def features(config: BackboneConfig, tensors, images) -> torch.Tensor:
    backbone = build_backbone(config).eval()
    fill(backbone, tensors)
    with torch.no_grad():
        return torch.cat([backbone(images).cls[:, None], backbone(images).patches], 1)


def test_the_same_backbone_keeps_every_tensor() -> None:
    tensors = weights(VIT)
    fitted = fitted_to(tensors, VIT, replace(VIT, drop_path=0.3))
    assert fitted.keys() == tensors.keys()
    assert all(torch.equal(fitted[k], tensors[k]) for k in tensors)


def test_positions_are_interpolated_to_the_exact_grid() -> None:
    tensors = weights(VIT)
    table = fitted_to(tensors, VIT, replace(VIT, image_size=48))["pos_embed"]
    square = tensors["pos_embed"][:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    expected = F.interpolate(square, (6, 6), mode="bicubic").permute(0, 2, 3, 1).reshape(1, 36, -1)
    assert torch.equal(table[:, :1], tensors["pos_embed"][:, :1])
    assert torch.allclose(table[:, 1:], expected)


def test_a_larger_patch_sees_in_a_larger_image_what_the_smaller_one_saw() -> None:
    """FlexiViT's point: patch and image scaled together give nearly the same tokens."""
    tensors, new = weights(VIT), replace(VIT, patch_size=16, image_size=64)
    fitted = fitted_to(tensors, VIT, new)
    images = torch.randn(2, 3, 32, 32)
    small = F.conv2d(images, tensors["patch_embed.weight"], stride=8)
    large = F.interpolate(images, scale_factor=2, mode="bicubic")
    tokens = F.conv2d(large, fitted["patch_embed.weight"], stride=16)
    assert torch.nn.functional.cosine_similarity(small, tokens).mean() > 0.95
    assert torch.equal(fitted["pos_embed"], tensors["pos_embed"])


def test_a_shared_table_is_copied_into_every_block_and_computes_the_same() -> None:
    tensors, own = weights(SHARED), replace(SHARED, positions="relative")
    images = torch.randn(2, 3, 32, 32)
    before = features(SHARED, tensors, images)
    assert torch.allclose(features(own, fitted_to(tensors, SHARED, own), images), before, atol=1e-6)


def test_tables_of_another_size_are_splined_as_at_evaluation() -> None:
    tensors, new = weights(SHARED), replace(SHARED, image_size=48)
    name = "rel_pos_bias.relative_position_bias_table"
    fitted = fitted_to(tensors, SHARED, new)
    assert torch.equal(fitted[name], splined_table(tensors[name], (6, 6)))
    images = torch.randn(1, 3, 48, 48)  # the backbone of 32 px resamples by itself
    close = torch.allclose(
        features(SHARED, tensors, images), features(new, fitted, images), atol=1e-5
    )
    assert close


@pytest.mark.parametrize(
    ("old", "new", "remedy"),
    [
        (VIT, replace(VIT, name="vit_tiny"), "backbone.name=vit_nano"),
        (VIT, replace(VIT, name="beit_nano"), "backbone.name=vit_nano"),
        (VIT, replace(VIT, layer_scale=0.1), "backbone.layer_scale=0"),
        (VIT, replace(VIT, registers=4), "backbone.registers=0"),
        (SHARED, replace(SHARED, positions="absolute"), "backbone.positions='shared relative'"),
        (SHARED, replace(SHARED, patch_size=16), "backbone.patch_size=8"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(old, new, remedy) -> None:
    with pytest.raises(UserError) as error:
        fitted_to(weights(old), old, new)
    assert remedy in str(error.value) and str(error.value).endswith(".")
    assert str(error.value).count("\n") == 0


def test_a_mask_token_and_a_norm_may_be_missing_on_either_side() -> None:
    tensors = weights(VIT, mask_token=True)
    backbone = build_backbone(VIT)
    assert fill(backbone, tensors) == []
    without = {k: v for k, v in tensors.items() if k not in ("mask_token", "norm.weight")}
    masked = build_backbone(VIT, mask_token=True)
    assert fill(masked, without) == ["the mask token is new", "the final norm is new"]
    del without["cls_token"]
    with pytest.raises(UserError, match="cls_token"):
        fill(build_backbone(VIT), without)
