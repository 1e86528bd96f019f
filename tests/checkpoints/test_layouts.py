"""Every layout of a backbone: features equal timm's model, or the formula in float64."""

import argparse
from functools import partial

import pytest
import torch
from timm.models.beit import Beit
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from timm.models.vision_transformer import VisionTransformer as TimmViT

from sslbench.backbones.config import SIZES, BackboneConfig
from tests.backbones import test_beit_vit
from tests.checkpoints.layouts import NANO, beit, forward, prefixed, swin, vit
from tests.checkpoints.test_official import at_the_start, features, load, tiny_others, worst

__all__ = ["tiny_others"]

SIZES_SEEN = [(224, 224), (96, 96), (160, 128)]

VITS = {  # depth: of all but one cut to 2, which takes nothing from the layout
    "ViT-S/16": {"width": 384, "depth": 12},
    "ViT-S/8": {"width": 384, "patch": 8, "grid": 28},
    "ViT-B/16": {"width": 768},
    "ViT-B/8": {"width": 768, "patch": 8, "grid": 28},
    "ViT-L/16": {"width": 1024},
}


@pytest.fixture
def shallow(monkeypatch):
    """Cuts a family's size to 2 blocks."""

    def cut(name):
        width, _, heads, std = SIZES[name]
        monkeypatch.setitem(SIZES, name, (width, 2, heads, std))

    return cut


@pytest.mark.parametrize("arch", VITS)
def test_the_papers_vits_equal_timm_and_the_formula(tmp_path, shallow, arch):
    sizes = {"depth": 2, "patch": 16, "grid": 14} | VITS[arch]
    official, heads = vit(**sizes), sizes["width"] // 64
    if sizes["depth"] == 2:
        shallow({"S": "vit_small", "B": "vit_base", "L": "vit_large"}[arch[4]])
    model = load(tmp_path, {"state_dict": official}, query=f"?arch={arch}")
    assert (model.card.arch, model.image_size) == (arch, 224)
    peer = TimmViT(
        224, sizes["patch"], embed_dim=sizes["width"], depth=sizes["depth"], num_heads=heads,
        num_classes=0,
    ).eval()  # fmt: skip
    peer.load_state_dict(official)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert worst(features(model, images), peer.forward_features(images)) <= 1e-5
    for size in [(96, 96), (64, 128)]:
        images = torch.randn(1, 3, *size)
        assert worst(features(model, images), forward(official, heads, images)) <= 1e-5


@pytest.mark.parametrize("positions", ["shared relative", "relative", "absolute"])
@pytest.mark.parametrize("size, width", [("base", 768), ("large", 1024)])
def test_the_papers_beits_equal_timm(tmp_path, shallow, size, width, positions):
    heads, scale = width // 64, positions != "absolute"
    shallow(f"beit_{size}")
    official = beit(width, 2, heads, positions=positions, scale=scale)
    model = load(tmp_path, {"model": official | {"lm_head.weight": torch.zeros(8192, width)}})
    peer = Beit(
        embed_dim=width, depth=2, num_heads=heads, num_classes=0, global_pool="token",
        init_values=0.1 if scale else None, use_abs_pos_emb=positions == "absolute",
        use_rel_pos_bias=positions == "relative",
        use_shared_rel_pos_bias=positions == "shared relative",
    ).eval()  # fmt: skip
    peer.load_state_dict({k: v for k, v in official.items() if k in peer.state_dict()})
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert worst(features(model, images), peer.forward_features(images)) <= 1e-5
    assert model.card.arch == f"ViT-{size[0].upper()}/16{' rel' if scale else ''}"
    assert model.mean == ((0.5, 0.5, 0.5) if scale else (0.485, 0.456, 0.406))


@pytest.mark.parametrize("window, last, eps", [(7, 7, 1e-6), (14, 7, 1e-6), (7, 7, None)])
def test_swins_equal_timm(tmp_path, window, last, eps):
    """iBOT's with its eps; a file in timm's naming (eps None) with timm's default.

    A small embedding makes the eps matter.
    """
    official = swin(windows=(window, window, window, last))
    official |= {
        k: 0.01 * official[k] for k in ("patch_embed.proj.weight", "patch_embed.proj.bias")
    }
    official["masked_embed"] = torch.randn(1, 96)
    renamed = at_the_start(official)
    saved = official if eps else renamed | {"mask_token": official["masked_embed"]}
    model = load(tmp_path, {"state_dict": saved}, query=f"?arch=Swin-T/{window}")
    norm = {"norm_layer": partial(torch.nn.LayerNorm, eps=eps)} if eps else {}
    peer = TimmSwin(window_size=window, num_classes=0, **norm).eval()
    peer.load_state_dict(renamed)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found, expected = model.backbone(images), peer.forward_features(images).flatten(1, 2)
    assert worst(found.patches.double(), expected) <= 1e-5
    assert worst(found.cls.double(), expected.mean(1)) <= 1e-5
    assert torch.equal(model.backbone.mask_token, official["masked_embed"])


LAYOUTS = {
    "hub": lambda t: t,
    "iBOT backbone": lambda t: {"state_dict": t | {"masked_embed": torch.randn(1, 16)}},
    "DeiT": lambda t: {"model": t | {"head.weight": torch.ones(9, 16), "head.bias": torch.ones(9)}},
    "lightning": lambda t: {"state_dict": prefixed(t, "model.encoder.")},
    "data parallel": lambda t: {"state_dict": prefixed(t, "module.")},
    "half": lambda t: {k: v.half() for k, v in t.items()},
}


@pytest.mark.parametrize("size", SIZES_SEEN)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_vit_in_every_layout_equals_the_formula(tmp_path, layout, size):
    official = vit(**NANO)
    if layout == "half":
        official = {k: v.half().float() for k, v in official.items()}
    model = load(tmp_path, LAYOUTS[layout](official))
    images = torch.randn(2, 3, *size)
    assert worst(features(model, images), forward(official, 2, images)) <= 1e-5
    if layout != "iBOT backbone":
        assert model.backbone.mask_token is None
        assert "the file holds no mask token; evaluation needs none" in model.report.notes
    if layout == "DeiT":
        assert model.report.dropped == {"a fine-tuned classifier": ("head.weight", "head.bias")}


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_equals_timm(tmp_path, registers):
    official = vit(**NANO, patch=14, grid=37, layer_scale=True, registers=registers)
    official["mask_token"] = torch.randn(1, 16)
    model = load(tmp_path, official, "dinov2_x.pth")
    config = model.backbone.config
    assert (config.registers, config.layer_scale, config.image_size) == (registers, 1.0, 518)
    assert model.image_size == 224  # the positions are for 518, features are evaluated at 224
    peer = TimmViT(
        518, 14, embed_dim=16, depth=2, num_heads=2, num_classes=0, init_values=1.0,
        reg_tokens=registers, no_embed_class=bool(registers),
    ).eval()  # fmt: skip
    theirs = {k: v for k, v in official.items() if k not in ("mask_token", "register_tokens")}
    if registers:
        theirs["reg_token"] = official["register_tokens"]
        theirs["cls_token"] = official["cls_token"] + official["pos_embed"][:, :1]
        theirs["pos_embed"] = official["pos_embed"][:, 1:]
    peer.load_state_dict(theirs)
    images = torch.randn(1, 3, 518, 518)
    with torch.no_grad():
        expected = peer.forward_features(images)
    kept = torch.cat([expected[:, :1], expected[:, 1 + registers :]], 1)
    assert worst(features(model, images), kept) <= 1e-5
    from_timm = load(tmp_path, theirs, "timm.pth")
    assert worst(features(from_timm, images), kept) <= 1e-5
    if not registers:
        for size in ((98, 98), (56, 112)):
            images = torch.randn(1, 3, *size)
            assert worst(features(model, images), forward(official, 2, images)) <= 1e-5


@pytest.mark.parametrize("size", SIZES_SEEN)
@pytest.mark.parametrize("positions", ["shared relative", "relative", "absolute"])
def test_beit_equals_the_formula(tmp_path, positions, size):
    official = beit(**NANO, heads=2, positions=positions, scale=positions != "absolute")
    model = load(tmp_path, {"model": official, "args": argparse.Namespace(lr=1), "epoch": 3})
    images = torch.randn(2, 3, *size)
    weights = {k.replace("patch_embed.proj", "patch_embed"): v for k, v in official.items()}
    config = BackboneConfig("beit_nano", positions=positions)
    expected = test_beit_vit.reference(weights, config, images)
    assert worst(features(model, images), expected) <= 1e-5
    assert torch.equal(model.backbone.mask_token, official["mask_token"])
    index = [k for k in official if k.endswith("_index")]
    assert sorted(model.report.dropped.get("computed from the sizes", ())) == sorted(index)
