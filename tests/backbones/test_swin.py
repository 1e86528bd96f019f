"""Swin against iBOT's forward in float64 (swin_reference.py) and timm's model."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from torch import nn

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import SWINS, BackboneConfig
from sslbench.errors import UserError
from sslbench.methods.ibot import IBOT, IBOTConfig
from sslbench.recipes.recipe import OptimConfig
from sslbench.training.optim import make_optimizer
from tests.backbones.swin_reference import DEPTHS, HEADS, WIDTH, reference
from tests.methods.small import shake


@pytest.fixture(autouse=True)
def tiny_swin(monkeypatch):
    """Makes `swin_nano` a Swin of width 8."""
    monkeypatch.setitem(SWINS, "swin_nano", (WIDTH, DEPTHS, HEADS, 0.1))


def make_swin(window=7, image_size=224, mask_token=False, drop_path=0.0):
    torch.manual_seed(0)
    config = BackboneConfig("swin_nano", 4, image_size, drop_path, window)
    return shake(build_backbone(config, mask_token)).eval()


def from_timm(weights):
    """timm merges at the start of a stage, Microsoft and iBOT at the end of the one before."""
    named = {}
    for name, tensor in weights.items():
        first, *rest = name.split(".")
        if first == "layers" and rest[1] == "downsample":
            rest[0] = str(int(rest[0]) - 1)
        named[".".join([first, *rest])] = tensor
    return named


def timm_pair(window, width, depths, heads, config):
    peer = TimmSwin(
        embed_dim=width, depths=depths, num_heads=heads, window_size=window, num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    shake(peer).eval()
    ours = build_backbone(config, drop_path=0.0).eval()
    ours.load_state_dict(from_timm(peer.state_dict()))
    return ours, peer


# 96: every stage is padded (24, 12, 6, 3 of 7); 64 x 160: stages of 16 x 40 to 2 x 5
@pytest.mark.parametrize("height, width", [(96, 96), (64, 160), (128, 32)])
@pytest.mark.parametrize("window", [7, 14])
def test_features_equal_the_published_forward(window, height, width):
    model, images = make_swin(window), torch.randn(2, 3, height, width)
    *blocks, expected = reference(model.state_dict(), model.config, images)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        with torch.no_grad():
            tokens = model.to(dtype)(images.to(dtype))
            found = model.last_blocks(images.to(dtype), 8)
        worst = (tokens.patches.double() - expected.flatten(1, 2)).abs().max()
        assert float(worst) <= tolerance
        for ours, theirs in zip(found, blocks, strict=True):
            # raw activations grow with depth: relative to their size
            error = (ours.patches.double() - theirs.flatten(1, 2)).abs().max()
            assert float(error / theirs.abs().max()) <= tolerance
    assert tokens.grid == (height // 32, width // 32)


@pytest.mark.parametrize("window", [7, 14])
def test_features_equal_timm_where_nothing_is_padded(window):
    config = BackboneConfig("swin_nano", 4, window=window)
    ours, peer = timm_pair(window, WIDTH, DEPTHS, HEADS, config)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        tokens, expected = ours(images), peer.forward_features(images)
        torch.testing.assert_close(tokens.cls, peer(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tokens.patches, expected.flatten(1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("window", [7, 14])
def test_the_papers_size_equals_timm(window):
    _, depths, heads, _ = SWINS["swin_tiny"]
    ours, peer = timm_pair(window, 96, depths, heads, BackboneConfig("swin_tiny", 4, window=window))
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found, expected = ours(images).patches, peer.forward_features(images).flatten(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_windows_shrink_to_small_stages():
    """Sides 56, 28, 14, 7 at 224 px; with window 14 stages 3 and 4 have one window, no shift."""
    expected = {
        7: [(7, 0), (7, 3), (7, 0), (7, 3), (7, 0), (7, 3), (7, 0), (7, 0)],
        14: [(14, 0), (14, 7), (14, 0), (14, 7), (14, 0), (14, 0), (7, 0), (7, 0)],
    }
    for window, pairs in expected.items():
        model = make_swin(window)
        blocks = [block for stage in model.layers for block in stage.blocks]
        assert [(b.window_size[0], b.shift_size[0]) for b in blocks] == pairs
        tables = {len(b.attn.relative_position_bias_table) for b in blocks}
        assert tables == {(2 * w - 1) ** 2 for w, _ in pairs}


def test_the_mask_is_drawn_on_output_patches():
    """7 x 7 at 224 px; each entry covers 8 x 8 of the 56 x 56 embedded patches."""
    stride = BackboneConfig("swin_tiny", 4).stride
    views = IBOT.views(IBOTConfig(), stride)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 80, 3), dtype=np.uint8))
    assert views(image, np.random.default_rng(0), 0).masks["global"].shape == (2, 7, 7)


def test_masked_features_equal_the_published_forward():
    model = make_swin(mask_token=True)
    images, mask = torch.randn(2, 3, 64, 96), torch.zeros(2, 2, 3, dtype=torch.bool)
    mask[0, 1, 2] = mask[1, 0, 0] = True
    expected = reference(model.state_dict(), model.config, images, mask)[-1].flatten(1, 2)
    found, plain = (model(images, m).patches.detach().double() for m in (mask, None))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-2)


def test_a_mask_without_a_mask_token_is_refused():
    with pytest.raises(ValueError, match="without a mask token"):
        make_swin()(torch.randn(1, 3, 32, 32), torch.zeros(1, 1, 1, dtype=torch.bool))


def test_the_last_blocks_span_stages_and_norms_the_last_one_only():
    """iBOT's protocol for Swin: 384 + 384 + 768 + 768 for n = 4 (recipes 5.2)."""
    model, images = make_swin(), torch.randn(2, 3, 224, 160)
    raw = model.last_blocks(images, 4)
    found = [model.normed(tokens) for tokens in raw]
    assert [t.cls.shape[1] for t in found] == [4 * WIDTH, 4 * WIDTH, 8 * WIDTH, 8 * WIDTH]
    assert [t.grid for t in found] == [(14, 10), (14, 10), (7, 5), (7, 5)]
    for a, b in zip(raw[:2], found[:2], strict=True):
        assert torch.equal(a.patches, b.patches)
    for a, b in zip(raw[2:], found[2:], strict=True):
        torch.testing.assert_close(model.norm(a.patches), b.patches)
    last = model(images)
    assert torch.equal(found[-1].patches, last.patches) and torch.equal(found[-1].cls, last.cls)
    for tokens in (*raw, *found):
        torch.testing.assert_close(tokens.cls, tokens.patches.mean(1))
    assert len(model.last_blocks(images, 99)) == model.depth == 8


def test_maps_are_those_of_the_blocks():
    model, images = make_swin(), torch.randn(2, 3, 96, 160)
    assert model.stage_ends == (1, 3, 5, 7)
    blocks = (7, 0, 3, 4)
    for norm in (False, True):
        tokens = model.last_blocks(images, 8)
        tokens = [model.normed(t) for t in tokens] if norm else tokens
        for i, found in zip(blocks, model.feature_pyramid(images, blocks, norm), strict=True):
            expected = tokens[i].patches.transpose(1, 2).unflatten(2, tokens[i].grid)
            assert torch.equal(found, expected) and found.is_contiguous()
            channels, stride = model.map_shape(i)
            assert found.shape == (2, channels, 96 // stride, 160 // stride)
    assert [model.map_shape(i) for i in model.stage_ends] == [(8, 4), (16, 8), (32, 16), (64, 32)]
    for wrong in (8, -1):
        with pytest.raises(ValueError, match="backbone with 8 blocks"):
            model.feature_pyramid(images, (wrong,))


@pytest.mark.parametrize("depth, norm", [(8, True), (8, False), (7, True), (5, True), (4, False)])
def test_what_is_pruned_was_not_used(depth, norm):
    model, images = make_swin(mask_token=True), torch.randn(2, 3, 96, 64)
    for stage in model.layers:  # as `prune` does
        stage.shift()
    ends = (*(i for i in model.stage_ends if i < depth - 1), depth - 1)
    expected = model.feature_pyramid(images, ends, norm)
    model.prune(depth, norm)
    assert (model.depth, model.stage_ends, model.mask_token) == (depth, ends, None)
    found = model.feature_pyramid(images, ends, norm)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    sum(x.square().sum() for x in found).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused == []


def test_a_backbone_for_dense_tasks_is_shifted_in_all_stages():
    model = make_swin(14)
    model.prune(8, norm=False)
    found = [[(b.window_size[0], b.shift_size) for b in stage.blocks] for stage in model.layers]
    wide = [(14, (0, 0)), (14, (7, 7))]
    assert found == [wide, wide, wide, [(7, (0, 0)), (7, (3, 3))]]


def test_layers_are_blocks_and_a_merging_goes_with_the_block_before_it():
    model = make_swin(mask_token=True)
    layers = {name: model.layer_of(name) for name, _ in model.named_parameters()}
    embeddings = {name for name, layer in layers.items() if layer == 0}
    assert embeddings == {name for name in layers if name.startswith(("patch_embed", "mask_token"))}
    for stage in range(4):
        for i in range(2):
            own = {layers[n] for n in layers if n.startswith(f"layers.{stage}.blocks.{i}.")}
            assert own == {2 * stage + i + 1}
        merging = {layers[n] for n in layers if n.startswith(f"layers.{stage}.downsample.")}
        assert merging == ({2 * stage + 2} if stage < 3 else set())
    assert layers["norm.weight"] == layers["norm.bias"] == 9


def test_no_size_leaves_a_trace():
    """A mask kept from another size would be wrong, not slow."""
    model, images = make_swin(), torch.randn(1, 3, 96, 96)
    expected = model(images).patches
    model(torch.randn(1, 3, 224, 128))
    assert torch.equal(model(images).patches, expected)


def test_drop_path_is_as_asked():
    """The official factory ignores the flag and takes 0.1."""
    for asked, override, rate in ((0.7, None, 0.7), (0.7, 0.0, 0.0)):
        model = build_backbone(BackboneConfig("swin_nano", 4, drop_path=asked), drop_path=override)
        blocks = [block for stage in model.layers for block in stage.blocks]
        for name in ("drop_path1", "drop_path2"):
            found = [getattr(getattr(b, name), "drop_prob", 0.0) for b in blocks]
            assert found == pytest.approx(np.linspace(0, rate, 8).tolist(), abs=1e-6)
    assert BackboneConfig("swin_tiny", 4).drop_path == 0.1


def test_weights_have_the_official_names_and_shapes():
    model = make_swin(mask_token=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {"mask_token": (1, 8), "norm.weight": (64,), "norm.bias": (64,)}
    expected |= {"patch_embed.proj.weight": (8, 3, 4, 4)}
    expected |= {f"patch_embed.{n}": (8,) for n in ("proj.bias", "norm.weight", "norm.bias")}
    for stage, heads in enumerate(HEADS):
        d = 8 * 2**stage
        for i in range(2):
            name = f"layers.{stage}.blocks.{i}"
            expected[f"{name}.attn.relative_position_bias_table"] = (169, heads)
            for part, (rows, columns) in {
                "attn.qkv": (3 * d, d),
                "attn.proj": (d, d),
                "mlp.fc1": (4 * d, d),
                "mlp.fc2": (d, 4 * d),
            }.items():
                expected |= {
                    f"{name}.{part}.weight": (rows, columns),
                    f"{name}.{part}.bias": (rows,),
                }
            for part in ("norm1", "norm2"):
                expected |= {f"{name}.{part}.weight": (d,), f"{name}.{part}.bias": (d,)}
        if stage < 3:
            name = f"layers.{stage}.downsample"
            expected |= {f"{name}.norm.weight": (4 * d,), f"{name}.norm.bias": (4 * d,)}
            expected[f"{name}.reduction.weight"] = (2 * d, 4 * d)
    assert shapes == expected


def test_bias_tables_and_mask_token_are_decayed():
    """They are two-dimensional, hence in the decayed group."""
    model = make_swin(mask_token=True)
    decayed = {id(p) for p in make_optimizer(model, OptimConfig()).param_groups[0]["params"]}
    assert decayed == {id(p) for p in model.parameters() if p.ndim > 1}
    assert id(model.mask_token) in decayed
    assert id(model.layers[0].blocks[0].attn.relative_position_bias_table) in decayed


def test_checkpointing_changes_no_gradient():
    model, images = make_swin(drop_path=0.6).train(), torch.randn(4, 3, 96, 64)
    gradients = []
    for model.checkpointing in (False, True):
        torch.manual_seed(0)
        model.zero_grad()
        model(images).patches.square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_named_size_is_the_papers():
    with torch.device("meta"):
        model = build_backbone(BackboneConfig("swin_tiny", 4))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(27.5, rel=0.01)
    assert (model.embed_dim, model.depth, model.patch_size, model.dense) == (768, 12, 32, True)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 2 * 12 + 3 + 2 and {m.eps for m in norms} == {1e-6}


def test_fresh_weights_follow_the_recipe():
    torch.manual_seed(0)
    model = build_backbone(BackboneConfig("swin_nano", 4), mask_token=True)
    assert not model.mask_token.any()
    weight = model.layers[3].blocks[0].mlp.fc1.weight.detach()
    assert float(weight.std()) == pytest.approx(model.init_std, rel=0.1)
    assert float(weight.abs().max()) > 2.5 * model.init_std
    assert not model.layers[0].blocks[0].attn.qkv.bias.any()
    table = model.layers[0].blocks[0].attn.relative_position_bias_table.detach()
    assert float(table.std()) == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"patch_size": 16}, "patch_size 16 does not go with swin_tiny: Swin's is always 4"),
        ({"patch_size": 4, "image_size": 112}, "112 is not a multiple of the stride 32"),
        ({"patch_size": 4, "window": 0}, "window=0: must be greater than or equal to 1"),
        ({"patch_size": 4, "layer_scale": 0.1}, r"layer_scale=0.1 is for vit_\* and beit_\*"),
        ({"patch_size": 4, "positions": "relative"}, r"positions='relative' is for beit_\*"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        build_backbone(BackboneConfig("swin_tiny", **settings))


@pytest.mark.parametrize("height, width", [(112, 96), (96, 100)])
def test_refuses_other_sizes(height, width):
    with pytest.raises(UserError, match=rf"{height}x{width} is not a multiple of Swin's stride 32"):
        make_swin()(torch.randn(1, 3, height, width))


def test_architectures_have_their_short_names():
    configs = [BackboneConfig("swin_tiny", 4, window=w) for w in (7, 14)]
    assert [c.arch for c in configs] == ["Swin-T/7", "Swin-T/14"]
    assert BackboneConfig("swin_nano", 4).arch == "Swin-Nano/7"
