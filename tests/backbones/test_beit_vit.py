"""BEiT's ViT against its published forward, rewritten in float64, and what it shares with ours."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import RectBivariateSpline

from sslbench.backbones import attention
from sslbench.backbones.beit_vit import linear_table, splined_table
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import POSITIONS, SIZES, BackboneConfig
from sslbench.errors import UserError
from sslbench.recipes.recipe import OptimConfig
from sslbench.training.optim import make_optimizer
from tests.methods.small import shake

HEADS, WIDTH, DEPTH = 2, 16, 2


@pytest.fixture(autouse=True)
def tiny_beit(monkeypatch):
    """Makes `beit_nano` a ViT of width 16, depth 2 and 2 heads."""
    monkeypatch.setitem(SIZES, "beit_nano", (WIDTH, DEPTH, HEADS, 0.1))


def make_beit(positions="shared relative", mask_token=False, drop_path=0.0, **settings):
    torch.manual_seed(0)
    values = {"patch_size": 16, "image_size": 224} | settings
    config = BackboneConfig("beit_nano", drop_path=drop_path, positions=positions, **values)
    return shake(build_backbone(config, mask_token)).eval()


def spread(span, target):
    """Where beit/run_class_finetuning.py puts the trained distances on the new axis."""
    left, right = 1.01, 1.5
    while right - left > 1e-6:
        q = (left + right) / 2
        reach = sum(q**i for i in range(span // 2))
        left, right = (left, q) if reach > target // 2 else (q, right)
    half = [sum(q**i for i in range(k + 1)) for k in range(span // 2)]
    return [-x for x in reversed(half)] + [0] + half


def resampled(table, side, grid):
    """FITPACK's bicubic spline, the routine of the `interp2d` that BEiT calls."""
    if grid == (side, side):
        return table
    span, targets = 2 * side - 1, [2 * n - 1 for n in grid]
    places = [spread(span, n) for n in targets]
    wanted = [np.arange(n) - n // 2 for n in targets]
    heads = [
        RectBivariateSpline(*places, table[:-3, h].reshape(span, span))(*wanted)
        for h in range(table.shape[1])
    ]
    return np.concatenate([np.stack(heads, -1).reshape(-1, len(heads)), table[-3:]])


def bias_by_pairs(table, grid):
    """(heads, 1 + N, 1 + N): one table entry a pair, counted out."""
    places = list(product(range(grid[0]), range(grid[1])))
    bias = np.empty((table.shape[1], 1 + len(places), 1 + len(places)))
    bias[:, 0, :], bias[:, :, 0], bias[:, 0, 0] = table[[-3]].T, table[[-2]].T, table[-1]
    rows, columns = np.array(places).T
    down, right = (x[:, None] - x[None] for x in (rows, columns))
    entry = (down + grid[0] - 1) * (2 * grid[1] - 1) + right + grid[1] - 1
    bias[:, 1:, 1:] = table[entry].transpose(2, 0, 1)
    return torch.from_numpy(bias)


def reference(weights, config, images, mask=None):
    """All tokens after the final norm, (B, 1 + N, D), in float64 (beit/modeling_pretrain.py)."""
    w = {k: v.detach().double() for k, v in weights.items()}
    patch, side = config.patch_size, config.image_size // config.patch_size
    x = F.conv2d(images.double(), w["patch_embed.weight"], w["patch_embed.bias"], patch)
    grid, x = tuple(x.shape[2:]), x.flatten(2).transpose(1, 2)
    if mask is not None:
        share = mask.flatten(1)[..., None].double()
        x = x * (1 - share) + w["mask_token"] * share
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], 1)
    if "pos_embed" in w:
        square = w["pos_embed"][:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        if grid != (side, side):
            scale = [(n + 0.1) / side for n in grid]
            square = F.interpolate(square, scale_factor=scale, mode="bicubic")
        x = x + torch.cat([w["pos_embed"][:, :1], square.flatten(2).transpose(1, 2)], 1)
    for i in range(DEPTH):
        b = {k.removeprefix(f"blocks.{i}."): v for k, v in w.items() if f"blocks.{i}." in k}
        gammas = (b.get("gamma_1", 1.0), b.get("gamma_2", 1.0))
        y = F.layer_norm(x, (WIDTH,), b["norm1.weight"], b["norm1.bias"], 1e-6)
        no_key_bias = torch.cat([b["attn.q_bias"], 0 * b["attn.q_bias"], b["attn.v_bias"]])
        qkv = (y @ b["attn.qkv.weight"].T + no_key_bias).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in qkv)
        logits = q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        name = "relative_position_bias_table"
        table = w.get(f"rel_pos_bias.{name}", b.get(f"attn.{name}"))
        if table is not None:
            logits = logits + bias_by_pairs(resampled(table.numpy(), side, grid), grid)
        y = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + gammas[0] * (y @ b["attn.proj.weight"].T + b["attn.proj.bias"])
        y = F.layer_norm(x, (WIDTH,), b["norm2.weight"], b["norm2.bias"], 1e-6)
        y = F.gelu(y @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"])
        x = x + gammas[1] * (y @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"])
    return F.layer_norm(x, (WIDTH,), w["norm.weight"], w["norm.bias"], 1e-6)


@pytest.mark.parametrize("height, width", [(224, 224), (96, 96), (160, 272)])
@pytest.mark.parametrize("layer_scale", [0.0, 0.1])
@pytest.mark.parametrize("positions", POSITIONS)
def test_features_equal_the_published_forward(positions, layer_scale, height, width):
    model = make_beit(positions, layer_scale=layer_scale)
    images = torch.randn(2, 3, height, width)
    expected = reference(model.state_dict(), model.config, images)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        tokens = model.to(dtype)(images.to(dtype))
        found = torch.cat([tokens.cls[:, None], tokens.patches], 1).detach().double()
        assert float((found - expected).abs().max()) <= tolerance
    assert tokens.grid == (height // 16, width // 16)


@pytest.mark.parametrize("positions", POSITIONS)
def test_masked_features_equal_the_published_forward(positions):
    model = make_beit(positions, mask_token=True)
    images, mask = torch.randn(2, 3, 224, 224), torch.rand(2, 14, 14) < 0.4
    expected = reference(model.state_dict(), model.config, images, mask)
    torch.testing.assert_close(
        model(images, mask).patches.double(), expected[:, 1:], rtol=0, atol=1e-5
    )
    assert not torch.allclose(model(images).patches.double(), expected[:, 1:], atol=1e-2)


@pytest.mark.parametrize("positions", POSITIONS)
def test_weights_have_the_official_names_and_shapes(positions):
    model = make_beit(positions, mask_token=True, layer_scale=0.1)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    table, block = (732, HEADS), "attn.relative_position_bias_table"
    own = {
        "absolute": {"pos_embed": (1, 197, WIDTH)},
        "relative": {f"blocks.{i}.{block}": table for i in range(DEPTH)},
        "shared relative": {"rel_pos_bias.relative_position_bias_table": table},
    }
    matrices = {"qkv": (48, 16), "proj": (16, 16), "fc1": (64, 16), "fc2": (16, 64)}
    expected = {"cls_token": (1, 1, 16), "mask_token": (1, 1, 16), **own[positions]}
    expected |= {"patch_embed.weight": (16, 3, 16, 16), "patch_embed.bias": (16,)}
    expected |= {"norm.weight": (16,), "norm.bias": (16,)}
    for i in range(DEPTH):
        vectors = ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias", "norm1.weight")
        vectors += ("norm1.bias", "norm2.weight", "norm2.bias", "attn.proj.bias", "mlp.fc2.bias")
        expected |= {f"blocks.{i}.{name}": (16,) for name in vectors}
        expected |= {f"blocks.{i}.attn.{n}.weight": matrices[n] for n in ("qkv", "proj")}
        expected |= {f"blocks.{i}.mlp.{n}.weight": matrices[n] for n in ("fc1", "fc2")}
        expected[f"blocks.{i}.mlp.fc1.bias"] = (64,)
    assert shapes == expected


def test_fresh_tables_are_zero_and_layer_scale_is_as_asked():
    torch.manual_seed(0)
    config = BackboneConfig("beit_nano", positions="relative", layer_scale=1e-5)
    block = build_backbone(config).blocks[1]
    assert not block.attn.relative_position_bias_table.any()
    assert block.gamma_1.tolist() == block.gamma_2.tolist() == [pytest.approx(1e-5)] * WIDTH
    assert not block.attn.q_bias.any() and not block.attn.v_bias.any()


def test_what_beit_decays():
    """Mask token and bias table are, vectors, positions and [CLS] are not."""
    config = OptimConfig(no_decay=("pos_embed", "cls_token"))
    for positions in POSITIONS:
        model = make_beit(positions, mask_token=True, layer_scale=0.1)
        decayed = {id(p) for p in make_optimizer(model, config).param_groups[0]["params"]}
        names = {name for name, p in model.named_parameters() if id(p) in decayed}
        matrices = {n for n, p in model.named_parameters() if p.ndim > 1}
        assert names == matrices - {"pos_embed", "cls_token"}
        assert "mask_token" in names
        assert any("bias_table" in name for name in names) == (positions != "absolute")


@pytest.mark.parametrize("resample", [splined_table, linear_table])
def test_a_resampled_table_keeps_the_entries_of_cls(resample):
    table = torch.randn(52, HEADS, dtype=torch.float64)  # of a 4 x 4 grid
    found = resample(table, (6, 9))
    assert found.shape == (11 * 17 + 3, HEADS)
    assert torch.equal(found[-3:], table[-3:])


@pytest.mark.parametrize("size", [16, 32, 48, 128])
def test_even_the_smallest_table_is_resampled(size):
    """A constant stays a constant, also where the new grid reaches beyond the spread distances."""
    model = make_beit(image_size=32).requires_grad_(False)
    model.rel_pos_bias.relative_position_bias_table[:-3] = 0.7
    bias = next(model._relative_biases((size // 16, size // 16)))
    torch.testing.assert_close(bias[:, :, 1:, 1:], torch.full_like(bias[:, :, 1:, 1:], 0.7))


@pytest.mark.parametrize("positions", ["relative", "shared relative"])
def test_tables_learn_from_crops_of_another_size(positions):
    model = make_beit(positions).train()
    with torch.inference_mode():
        model(torch.randn(1, 3, 96, 160))  # must not poison what training keeps
    model(torch.randn(1, 3, 96, 160)).patches.square().sum().backward()
    tables = [p for n, p in model.named_parameters() if "bias_table" in n]
    assert len(tables) == (DEPTH if positions == "relative" else 1)
    assert all(int((t.grad != 0).sum()) > t.numel() / 4 for t in tables)


@pytest.mark.parametrize("positions", POSITIONS)
def test_last_blocks_maps_and_forward_agree(positions):
    model, images = make_beit(positions), torch.randn(2, 3, 96, 160)
    first, last = map(model.normed, model.last_blocks(images, 2))
    assert torch.equal(last.cls, model(images).cls) and not torch.equal(first.cls, last.cls)
    for a, tokens in zip(model.feature_pyramid(images, (0, 1), True), (first, last), strict=True):
        assert torch.equal(a.flatten(2).transpose(1, 2), tokens.patches)


@pytest.mark.parametrize("positions", POSITIONS)
def test_what_is_pruned_was_not_used(positions):
    model, images = make_beit(positions, mask_token=True), torch.randn(1, 3, 96, 160)
    (expected,) = model.feature_pyramid(images, (0,))
    model.prune(1, norm=False)
    (found,) = model.feature_pyramid(images, (0,))
    assert torch.equal(found, expected)
    found.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_bias_tables_have_the_rate_of_their_place():
    """Shared: top of the layer decay (recipes 5.3); a block's own: that block's."""
    shared, own = make_beit(), make_beit("relative")
    assert shared.layer_of("rel_pos_bias.relative_position_bias_table") == DEPTH + 1
    assert own.layer_of("blocks.1.attn.relative_position_bias_table") == 2


@pytest.mark.parametrize("positions", POSITIONS)
def test_checkpointing_changes_no_gradient(positions):
    """Also where a crop of another size goes through before the backward pass."""
    model = make_beit(positions, drop_path=0.6).train()
    large, small = torch.randn(4, 3, 224, 224), torch.randn(4, 3, 96, 96)
    gradients = []
    for model.checkpointing in (False, True):
        torch.manual_seed(0)
        model.zero_grad()
        (model(large).cls.square().sum() + model(small).cls.square().sum()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("positions", POSITIONS)
def test_fused_attention_is_the_same(monkeypatch, positions):
    model, images = make_beit(positions), torch.randn(2, 3, 96, 96)
    plain = model(images)
    monkeypatch.setattr(attention, "attend", attention.fused)  # as on a GPU
    torch.testing.assert_close(model(images), plain)


def test_bf16_is_close_to_fp32():
    model, images = make_beit(), torch.randn(2, 3, 96, 96)
    expected = model(images).patches.detach()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = model(images).patches
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.02


@pytest.mark.parametrize(
    "name, millions", [("beit_small", 21.6), ("beit_base", 85.7), ("beit_large", 303)]
)
def test_named_sizes_are_the_papers(name, millions):
    with torch.device("meta"):
        model = build_backbone(BackboneConfig(name, positions="shared relative", layer_scale=0.1))
    assert model.dense
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert model.norm.eps == model.blocks[0].norm1.eps == 1e-6


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"name": "beit_base", "positions": "relativ"}, "did you mean 'relative'"),
        ({"name": "beit_base", "registers": 4}, r"registers=4 is for vit_\*; .* beit_base"),
        ({"name": "vit_base", "positions": "relative"}, r"positions='relative' is for beit_\*"),
        ({"name": "vit_base", "window": 14}, r"window=14 is for swin_\*"),
        ({"name": "vit_base", "layer_scale": -0.1}, "layer_scale=-0.1: must be greater"),
    ],
)
def test_settings_of_another_family_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        build_backbone(BackboneConfig(**settings))


def test_architectures_have_their_short_names():
    names = [BackboneConfig("beit_base", positions=p).arch for p in POSITIONS]
    assert names == ["ViT-B/16", "ViT-B/16 rel", "ViT-B/16 rel"]
    assert BackboneConfig("beit_large", 14, 224).stride == 14
