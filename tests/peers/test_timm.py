"""Our ViTs against timm's whole models with the same weights (Swin: tests/backbones/test_swin)."""

from dataclasses import replace

import pytest
import torch
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import POSITIONS, SIZES, BackboneConfig
from tests.methods.small import backbone_config, shake


def timm_vit(size=16):
    model = VisionTransformer(
        img_size=size, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=0
    )
    return shake(model).eval()


def from_timm(weights):
    return {k.replace("patch_embed.proj", "patch_embed"): v for k, v in weights.items()}


def to_timm(weights):
    return {k.replace("patch_embed", "patch_embed.proj"): v for k, v in weights.items()}


def pair(direction):
    torch.manual_seed(0)
    ours, peer = shake(build_backbone(backbone_config())).eval(), timm_vit()
    if direction == "from":
        ours.load_state_dict(from_timm(peer.state_dict()))
    else:
        peer.load_state_dict(to_timm(ours.state_dict()))
    return ours, peer


@pytest.mark.parametrize("direction", ["from", "to"])
def test_the_same_weights_give_the_same_features(direction):
    ours, peer = pair(direction)
    images = torch.randn(3, 3, 16, 16)
    tokens, theirs = ours(images), peer.forward_features(images)
    torch.testing.assert_close(tokens.cls, theirs[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tokens.patches, theirs[:, 1:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tokens.cls, peer(images), rtol=1e-5, atol=1e-5)
    assert float(tokens.cls.detach().std()) > 0.1


@pytest.mark.parametrize("norm", [True, False])
def test_intermediate_layers_are_the_same(norm):
    ours, peer = pair("from")
    images = torch.randn(2, 3, 16, 16)
    theirs = peer.get_intermediate_layers(images, 2, return_prefix_tokens=True, norm=norm)
    blocks = ours.last_blocks(images, 2)
    blocks = [ours.normed(tokens) for tokens in blocks] if norm else blocks
    for tokens, (patches, prefix) in zip(blocks, theirs, strict=True):
        torch.testing.assert_close(tokens.patches, patches, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(tokens.cls, prefix[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", [True, False])
def test_feature_maps_of_a_rectangle_are_the_same(norm):
    ours, peer = pair("from")[0], timm_vit((8, 20))
    positions = ours._positions((2, 5))  # timm resamples them in another way (trap T16)
    peer.load_state_dict(to_timm(ours.state_dict() | {"pos_embed": positions}))
    images = torch.randn(2, 3, 8, 20)
    theirs = peer.forward_intermediates(images, [0, 1], norm=norm, intermediates_only=True)
    for a, b in zip(ours.feature_pyramid(images, (0, 1), norm), theirs, strict=True):
        assert a.shape == (2, 16, 2, 5)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_gradients_are_the_same():
    ours, peer = pair("from")
    images, weight = torch.randn(2, 3, 16, 16), torch.randn(2, 17, 16)
    tokens = ours(images)
    (torch.cat([tokens.cls[:, None], tokens.patches], 1) * weight).sum().backward()
    (peer.forward_features(images) * weight).sum().backward()
    theirs = from_timm({k: p.grad for k, p in peer.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name], rtol=1e-4, atol=1e-4)


def test_dinov2_with_registers_gives_the_same_features():
    """timm adds the position of [CLS] to its token; register tokens have none."""
    torch.manual_seed(0)
    config = replace(backbone_config(), registers=3, layer_scale=1.0)
    ours = shake(build_backbone(config)).eval()
    peer = VisionTransformer(
        img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=0,
        reg_tokens=3, no_embed_class=True, init_values=1.0,
    ).eval()  # fmt: skip
    weights = to_timm(ours.state_dict())
    weights["reg_token"] = weights.pop("register_tokens")
    weights["cls_token"] = weights["cls_token"] + weights["pos_embed"][:, :1]
    weights["pos_embed"] = weights["pos_embed"][:, 1:]
    peer.load_state_dict(weights)
    images = torch.randn(3, 3, 16, 16)
    tokens, theirs = ours(images), peer.forward_features(images)
    torch.testing.assert_close(tokens.cls, theirs[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tokens.patches, theirs[:, 4:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer_scale", [0.0, 0.1])
@pytest.mark.parametrize("positions", POSITIONS)
def test_beit_gives_the_same_features_and_gradients(monkeypatch, positions, layer_scale):
    monkeypatch.setitem(SIZES, "beit_nano", (16, 2, 2, 0.1))
    torch.manual_seed(0)
    config = BackboneConfig("beit_nano", 4, 16, 0.0, positions=positions, layer_scale=layer_scale)
    ours = shake(build_backbone(config)).eval()
    peer = Beit(
        img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=0,
        global_pool="token", init_values=layer_scale or None,
        use_abs_pos_emb=positions == "absolute", use_rel_pos_bias=positions == "relative",
        use_shared_rel_pos_bias=positions == "shared relative",
    ).eval()  # fmt: skip
    peer.load_state_dict(to_timm(ours.state_dict()))
    images, weight = torch.randn(3, 3, 16, 16), torch.randn(3, 17, 16)
    tokens, theirs = ours(images), peer.forward_features(images)
    found = torch.cat([tokens.cls[:, None], tokens.patches], 1)
    torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-5)
    (found * weight).sum().backward()
    (theirs * weight).sum().backward()
    gradients = from_timm({k: p.grad for k, p in peer.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-4)
