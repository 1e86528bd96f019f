"""The shared ViT: sizes, positions, mask token, intermediate layers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.backbones.vit import VisionTransformer
from sslbench.errors import UserError
from sslbench.method import true_places
from sslbench.system import products
from tests.methods.small import backbone_config, shake


def make_vit(mask_token=False, drop_path=0.0):
    torch.manual_seed(0)
    return shake(build_backbone(backbone_config(drop_path), mask_token)).eval()


def cubic(x):
    """Keys' kernel with a = -0.75, torch's."""
    x = abs(x)
    if x < 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resampling(size, target, scale):
    """(target, size) weights of a bicubic resampling by `scale`, borders repeated."""
    matrix = np.zeros((target, size))
    for i in range(target):
        centre = (i + 0.5) / scale - 0.5
        for j in range(math.floor(centre) - 1, math.floor(centre) + 3):
            matrix[i, min(max(j, 0), size - 1)] += cubic(centre - j)
    return matrix


@pytest.mark.parametrize("height, width", [(16, 16), (8, 8), (24, 16), (4, 20), (32, 12)])
def test_takes_any_multiple_of_the_patch(height, width):
    model = make_vit()
    tokens = model(torch.randn(2, 3, height, width))
    assert tokens.grid == (height // 4, width // 4)
    assert tokens.cls.shape == (2, 16)
    assert tokens.patches.shape == (2, height * width // 16, 16)


@pytest.mark.parametrize("height, width", [(15, 16), (16, 18)])
def test_refuses_other_sizes(height, width):
    with pytest.raises(UserError, match=rf"{height}x{width} is not a multiple of .* 4"):
        make_vit()(torch.randn(1, 3, height, width))


@pytest.mark.parametrize("grid", [(2, 2), (6, 6), (3, 7), (4, 2)])
def test_positions_are_resampled_by_scale_factor(grid):
    """The target grid + 0.1 over the table's, not the exact size."""
    model = make_vit()
    table = model.pos_embed[0, 1:].detach().double().numpy().reshape(4, 4, 16)
    rows, columns = (resampling(4, n, (n + 0.1) / 4) for n in grid)
    expected = np.einsum("ip,jq,pqd->ijd", rows, columns, table).reshape(-1, 16)
    found = model._positions(grid)[0].detach()
    np.testing.assert_allclose(found[1:], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found[0], model.pos_embed[0, 0])
    exact = [resampling(4, n, n / 4) for n in grid]
    other = np.einsum("ip,jq,pqd->ijd", *exact, table).reshape(-1, 16)
    assert np.abs(other - expected).max() > 1e-3


def test_positions_equal_the_official_call():
    """dino/vision_transformer.py:174-194 for a 96 px crop of a 224 px model, in small."""
    model = make_vit()
    table = model.pos_embed[:, 1:].reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    factor = (2 + 0.1) / math.sqrt(16)
    expected = F.interpolate(table, scale_factor=(factor, factor), mode="bicubic")
    assert torch.equal(model._positions((2, 2))[0, 1:], expected[0].flatten(1).T)
    assert model._positions((4, 4)) is model.pos_embed


def test_patches_are_read_row_by_row():
    model = make_vit()
    torch.nn.init.zeros_(model.pos_embed)
    images = torch.randn(1, 3, 8, 12)
    embedded, grid = model._embed(images, None)
    for row in range(2):
        for column in range(3):
            patch = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            torch.testing.assert_close(
                embedded[0, 1 + 3 * row + column], model.patch_embed(patch)[0, :, 0, 0]
            )
    assert grid == (2, 3)


def test_the_mask_token_enters_before_the_positions():
    model, images = make_vit(mask_token=True), torch.randn(2, 3, 8, 16)
    mask = torch.zeros(2, 2, 4, dtype=torch.bool)
    mask[0, 0, 1] = mask[1, 1, 3] = True
    plain, masked = (model._embed(images, m)[0] for m in (None, mask))
    replaced = (model.mask_token + model._positions((2, 4))[0]).detach()
    torch.testing.assert_close(masked[0, 2], replaced[2])
    torch.testing.assert_close(masked[1, 8], replaced[8])
    same = torch.ones(2, 9, dtype=torch.bool)
    same[0, 2] = same[1, 8] = False
    assert torch.equal(masked[same], plain[same])


def test_a_mask_without_a_mask_token_is_refused():
    with pytest.raises(ValueError, match="without a mask token"):
        make_vit()(torch.randn(1, 3, 16, 16), torch.zeros(1, 4, 4, dtype=torch.bool))


def test_the_last_block_is_that_of_the_forward():
    model, images = make_vit(), torch.randn(2, 3, 8, 16)
    first, raw = model.last_blocks(images, 2)
    last = model.normed(raw)
    expected = model(images)
    for a, b in zip(last, expected, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert not torch.equal(first.cls, raw.cls) and len(model.last_blocks(images, 9)) == 2
    torch.testing.assert_close(model.norm(raw.patches), expected.patches)
    assert not torch.equal(raw.patches, expected.patches)


@pytest.mark.parametrize("norm", [True, False])
def test_maps_are_the_patches_of_the_blocks(norm):
    model, images = make_vit(), torch.randn(2, 3, 8, 20)
    maps = model.feature_pyramid(images, (0, 1), norm)
    blocks = model.last_blocks(images, 2)
    blocks = [model.normed(tokens) for tokens in blocks] if norm else blocks
    for a, tokens in zip(maps, blocks, strict=True):
        assert a.shape == (2, 16, 2, 5) and a.is_contiguous()
        assert torch.equal(a.flatten(2).transpose(1, 2), tokens.patches)
        assert torch.equal(a[:, :, 1, 3], tokens.patches[:, 8])


def test_maps_come_as_named():
    model, images = make_vit(), torch.randn(1, 3, 8, 8)
    first, last = model.feature_pyramid(images, (0, 1))
    for a, b in zip(model.feature_pyramid(images, (1, 0, 1)), (last, first, last), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first, last)
    for blocks in ((2,), (-1,)):
        with pytest.raises(ValueError, match="with 2 blocks"):
            model.feature_pyramid(images, blocks)


def test_nothing_after_the_last_named_block_is_computed():
    model, images = make_vit(), torch.randn(1, 3, 8, 8)
    (expected,) = model.feature_pyramid(images, (0,))
    model.blocks[1] = model.norm = None  # a call would fail
    assert torch.equal(model.feature_pyramid(images, (0,))[0], expected)


@pytest.mark.parametrize("norm", [True, False])
def test_what_is_pruned_was_not_used(norm):
    model, images = make_vit(mask_token=True), torch.randn(2, 3, 8, 12)
    (expected,) = model.feature_pyramid(images, (0,), norm)
    model.prune(1, norm)
    (found,) = model.feature_pyramid(images, (0,), norm)
    assert torch.equal(found, expected) and model.depth == 1
    found.square().sum().backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    assert names == {name for name, _ in model.named_parameters()}
    assert ("norm.weight" in names) == norm


def test_layers_are_counted_from_the_embeddings():
    with torch.device("meta"):
        model = build_backbone(BackboneConfig("vit_small", 16, 224), mask_token=True)
    layers = {name: model.layer_of(name) for name, _ in model.named_parameters()}
    at = {depth: {n for n, layer in layers.items() if layer == depth} for depth in range(14)}
    embeddings = {"cls_token", "pos_embed", "mask_token", "patch_embed.weight", "patch_embed.bias"}
    assert at[0] == embeddings and at[13] == {"norm.weight", "norm.bias"}
    assert "blocks.1.attn.qkv.weight" in at[2] and "blocks.11.mlp.fc2.bias" in at[12]
    assert {len(at[depth]) for depth in range(1, 13)} == {12}


def pyramid_gradients(model, images, seed=0):
    """Loss and gradients of a weighted sum over both maps; `seed` is drop path's."""
    torch.manual_seed(seed)
    model.zero_grad()
    maps = torch.stack(model.feature_pyramid(images, (0, 1), norm=True))
    loss = (maps * torch.linspace(-1, 1, maps.numel()).view_as(maps)).sum()
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("read", [lambda m, x: m(x).cls, lambda m, x: m.cls_tokens(x)])
def test_a_repeated_pass_makes_its_products_by_the_same_library(monkeypatch, read):
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)
    monkeypatch.setattr(products, "LEAST", 0)
    model, images = make_vit().train(), torch.randn(6, 3, 8, 12)
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        with products.FastProducts():
            read(model, images).square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("drop_path", [0.0, 0.6])
def test_checkpointing_changes_no_gradient(monkeypatch, drop_path):
    model, images = make_vit(drop_path=drop_path).train(), torch.randn(6, 3, 8, 12)
    loss, expected = pyramid_gradients(model, images)
    calls = []
    through = VisionTransformer._through
    monkeypatch.setattr(
        VisionTransformer, "_through", lambda *args: calls.append(0) or through(*args)
    )
    model.checkpointing = True
    again, gradients = pyramid_gradients(model, images)
    assert len(calls) == 4  # twice a block
    assert torch.equal(again, loss)
    for name, gradient in expected.items():
        assert torch.equal(gradients[name], gradient), name
    other, _ = pyramid_gradients(model, images, seed=1)
    assert torch.equal(other, loss) == (drop_path == 0)


def test_checkpointing_is_for_training_alone(monkeypatch):
    model, images = make_vit(), torch.randn(1, 3, 8, 8)
    model.checkpointing = True
    monkeypatch.setattr("sslbench.backbones.base.checkpoint", None)  # a call would fail
    model.feature_pyramid(images, (0, 1))
    with torch.no_grad():
        model.train().feature_pyramid(images, (0, 1))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bf16_maps_are_close_to_fp32(checkpointing):
    model, images = make_vit().train(), torch.randn(2, 3, 8, 20)
    model.checkpointing = checkpointing
    loss, expected = pyramid_gradients(model, images)
    with torch.autocast("cpu", torch.bfloat16):
        found, gradients = pyramid_gradients(model, images)
    assert not torch.equal(found, loss)
    for name, gradient in expected.items():
        error = (gradients[name] - gradient).norm() / gradient.norm()
        assert float(error) < 0.05, name


def test_drop_path_rises_linearly_and_can_be_overridden():
    config = BackboneConfig("vit_small", 16, 32, drop_path=0.22)
    for override, expected in ((None, 0.22), (0.0, 0.0)):
        with torch.device("meta"):
            model = build_backbone(config, drop_path=override)
        assert drop_rates(model) == pytest.approx(np.linspace(0, expected, 12).tolist(), abs=1e-6)


def drop_rates(model):
    pairs = [(b.drop_path1, b.drop_path2) for b in model.blocks]
    rates = [[getattr(path, "drop_prob", 0.0) for path in pair] for pair in pairs]
    assert all(first == second for first, second in rates)
    return [first for first, _ in rates]


def test_drop_path_can_be_set_later():
    built, images = make_vit(drop_path=0.5), torch.randn(8, 3, 8, 8)
    model = make_vit()
    model.load_state_dict(built.state_dict())
    model.set_drop_path(0.5)
    assert drop_rates(model) == drop_rates(built) == [0.0, 0.5]
    assert torch.equal(model(images).cls, built(images).cls)  # in eval mode as before
    assert (
        pyramid_gradients(model.train(), images)[0] == pyramid_gradients(built.train(), images)[0]
    )
    model.set_drop_path(0.0)
    assert drop_rates(model) == [0.0, 0.0]


def test_fresh_weights_follow_the_recipe():
    """Section 1: Linear and tokens of std .02 effectively uncut, biases 0, Conv2d torch's own."""
    torch.manual_seed(0)
    model = build_backbone(backbone_config(), mask_token=True)
    assert not model.mask_token.any()
    assert float(model.pos_embed.detach().std()) == pytest.approx(0.02, rel=0.15)
    weight = model.blocks[0].mlp.fc1.weight.detach()
    assert float(weight.std()) == pytest.approx(model.init_std, rel=0.1)
    assert float(weight.abs().max()) > 2.5 * model.init_std
    assert not model.blocks[0].attn.qkv.bias.any()
    bound = 1 / math.sqrt(3 * 4 * 4)  # kaiming_uniform(a=sqrt 5) of a 3x4x4 kernel
    assert 0.9 * bound < float(model.patch_embed.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize(
    "name, patch, millions",
    [("vit_small", 16, 21.7), ("vit_base", 16, 85.8), ("vit_large", 16, 303)],
)
def test_named_sizes_are_the_papers(name, patch, millions):
    with torch.device("meta"):
        model = build_backbone(BackboneConfig(name, patch, 224))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert model.norm.eps == model.blocks[0].norm1.eps == 1e-6


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(UserError, match="did you mean 'vit_small'"):
        build_backbone(BackboneConfig("vit_smal"))
    with pytest.raises(UserError, match=r"image_size 225 is not a multiple of .* 16"):
        build_backbone(BackboneConfig("vit_small", 16, 225))


@pytest.mark.parametrize("patch, size", [(0, 224), (-16, 224), (16, 0), (16, -32)])
def test_sizes_without_a_pixel_are_refused(patch, size):
    with pytest.raises(UserError, match="backbone"):
        build_backbone(BackboneConfig("vit_small", patch, size))


def test_architectures_have_their_short_names():
    names = [BackboneConfig(n, 16).arch for n in ("vit_tiny", "vit_small", "vit_base", "vit_large")]
    assert names == ["ViT-Ti/16", "ViT-S/16", "ViT-B/16", "ViT-L/16"]


@pytest.mark.parametrize("name, settings", [
    ("vit_nano", {}),
    ("vit_nano", {"registers": 3, "layer_scale": 0.5}),
    ("beit_nano", {"positions": "relative", "layer_scale": 0.1}),
    ("beit_nano", {"positions": "shared relative"}),
    ("swin_nano", {}),
])  # fmt: skip
@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("read", ["cls", "cls and masked", "cls and masked, checkpointed"])
def test_what_is_read_of_the_last_block_is_that_of_all_tokens(name, settings, size, read):
    """Values and gradients in float64; dropped paths are those of the same draws."""
    patch = 4 if name.startswith("swin") else 16
    config = BackboneConfig(name, patch_size=patch, image_size=64, drop_path=0.3, **settings)
    torch.manual_seed(0)
    model = shake(build_backbone(config, mask_token=read != "cls")).double().train()
    images = torch.randn(8, 3, size, size, dtype=torch.float64)
    mask = torch.rand(8, size // model.patch_size, size // model.patch_size) < 0.3
    mask[:3] = False

    def of_all() -> list[torch.Tensor]:
        if read == "cls":
            return [model(images).cls]
        tokens = model(images, mask)
        return [tokens.cls, tokens.patches[mask.flatten(1)]]

    def of_few() -> list[torch.Tensor]:
        model.checkpointing = "checkpointed" in read
        if read == "cls":
            return [model.cls_tokens(images)]
        return list(model.cls_and_masked(images, mask, true_places(mask)))

    outputs = []
    for forward in (of_all, of_few):
        torch.manual_seed(1)
        model.zero_grad()
        tokens = forward()
        sum(x.square().sum() for x in tokens).backward()
        outputs.append([*tokens, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(outputs[0]) == len(outputs[1])
    for every, alone in zip(*outputs, strict=True):
        assert every.shape == alone.shape
        assert (every - alone).abs().max() <= 1e-10 * max(1.0, every.abs().max())
