"""Backbones of ours inside mmdet and mmseg: taps, pyramid, what is trained and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope

from sslbench.benchmarks.dense import register  # noqa: F401 (fills the registries)
from sslbench.benchmarks.dense.backbone import SSLBackbone, arch_of, spread_taps, taps
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError

SOURCE = "random-init:vit_nano/8@64"  # depth 4, width 128
SWIN = "random-init:swin_nano/4@128"  # 24 wide, two blocks a stage
ARCH = {"name": "vit_nano", "patch_size": 8, "image_size": 64}
TAPS = (0, 1, 2, 3)


def make(source: str | None = SOURCE, out_indices=TAPS, **settings) -> SSLBackbone:
    torch.manual_seed(0)
    settings = {"type": "SSLBackbone", "source": source, "out_indices": out_indices, **settings}
    return MODELS.build(settings)


def images(height: int, width: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("height, width", [(64, 64), (48, 96), (32, 136), (57, 90)])
def test_the_pyramid_has_four_strides(height, width):
    rows, columns = -(-height // 8), -(-width // 8)  # incomplete patches are padded
    shapes = [tuple(x.shape) for x in make()(images(height, width))]
    sides = [(4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns)]
    assert shapes == [(2, 128, *side) for side in [*sides, (rows // 2, columns // 2)]]


@pytest.mark.parametrize("height, width", [(64, 96), (57, 90)])
def test_swin_is_a_pyramid_itself(height, width):
    """Each stage's output through a norm of its own, as in mmdet's and mmseg's Swin."""
    model, batch = make(SWIN, (1, 3, 5, 7)).eval(), images(height, width)
    for i, norm in enumerate(model.norms):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias, std=i + 1.0)
    found = model(batch)
    raw = make(SWIN, (1, 3, 5, 7), pyramid=False).eval()(
        F.pad(batch, (0, 96 - width, 0, 64 - height))
    )
    shapes = [(2, 24 << i, 16 >> i, 24 >> i) for i in range(4)]
    assert [tuple(x.shape) for x in found] == [tuple(x.shape) for x in raw] == shapes
    for x, y, norm in zip(found, raw, model.norms, strict=True):
        mean, spread = y.mean(1, keepdim=True), y.var(1, keepdim=True, unbiased=False)
        expected = (y - mean) / (spread + 1e-5).sqrt()
        expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
        torch.testing.assert_close(x, expected)


def test_patches_of_14_are_read_as_16_in_a_pyramid():
    """Images are made smaller, so that weights and strides (4, 8, 16, 32) stay."""
    model, batch = make("random-init:vit_nano/14@56").eval(), images(100, 64)
    found = model(batch)
    assert [tuple(x.shape[2:]) for x in found] == [(28, 16), (14, 8), (7, 4), (3, 2)]
    padded = F.pad(batch, (0, 0, 0, 112 - 100))
    smaller = F.interpolate(padded, (98, 56), mode="bilinear", antialias=True)
    expected = model.model.feature_pyramid(smaller, TAPS)
    assert torch.equal(found[2], expected[2])
    # a linear layer has no stride to keep: native patches
    plain = make("random-init:vit_nano/14@56", pyramid=False).eval()(batch)
    assert [tuple(x.shape[2:]) for x in plain] == [(8, 5)] * 4


def test_a_patch_of_14_sees_what_lies_under_it():
    """What changes in one 16 x 16 square changes the embeddings of that square and its rim."""
    model, batch = make("random-init:vit_nano/14@56").eval(), images(64, 64, 1)
    other = batch.clone()
    other[:, :, 16:32, 32:48] += 1
    seen = [model.model.patch_embed(model._fitting(x))[0] for x in (batch, other)]
    change = (seen[0] - seen[1]).detach().abs().sum(0)
    assert change.argmax() == 1 * 4 + 2
    assert float(change[1, 2]) > 10 * float(change.sum() - change[1, 2])


@pytest.mark.parametrize("norm", [True, False])
def test_without_a_pyramid_the_maps_are_the_taps(norm):
    model = make(out_indices=(1, 3), out_norm=norm, pyramid=False)
    batch = images(40, 72)
    expected = load_backbone(SOURCE).backbone.feature_pyramid(batch, (1, 3), norm)
    for a, b in zip(model(batch), expected, strict=True):
        assert torch.equal(a, b) and a.shape == (2, 128, 5, 9)


def test_the_pyramid_is_the_papers():
    model, batch = make().eval(), images(32, 48)
    first, second, third, fourth = make(pyramid=False).eval()(batch)
    one, two, three, four = model(batch)
    up, norm, _, again = model.fpn1
    torch.testing.assert_close(one, again(F.gelu(norm(up(first)))))
    torch.testing.assert_close(two, model.fpn2[0](second))
    assert torch.equal(three, third) and torch.equal(four, F.max_pool2d(fourth, 2, 2))
    assert isinstance(norm, torch.nn.BatchNorm2d)
    own = {name for name in model.state_dict() if name.startswith("fpn")}
    weights = {f"fpn{i}.{j}.{k}" for i, j in ((1, 0), (1, 1), (1, 3), (2, 0)) for k in KINDS}
    assert weights < own and all("fpn1.1." in name for name in own - weights)


KINDS = ("weight", "bias")


def test_the_norm_of_the_pyramid_is_a_choice():
    norm = make(norm_cfg={"type": "GN", "num_groups": 4}).fpn1[1]
    assert isinstance(norm, torch.nn.GroupNorm) and norm.num_groups == 4
    assert isinstance(make(norm_cfg={"type": "SyncBN"}).fpn1[1], torch.nn.SyncBatchNorm)


def test_incomplete_patches_are_filled_with_zeros():
    model, batch = make().eval(), images(57, 90)
    padded = F.pad(batch, (0, 96 - 90, 0, 64 - 57))
    for a, b in zip(model(batch), model(padded), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("pyramid", [True, False])
@pytest.mark.parametrize("out_norm", [True, False])
@pytest.mark.parametrize(
    "source, out_indices",
    [(SOURCE, TAPS), (SOURCE, (0, 0, 1, 2)), (SWIN, (1, 3, 5, 7)), (SWIN, (0, 1, 2, 4))],
)
def test_every_parameter_is_trained(source, out_indices, out_norm, pyramid, checkpointing):
    """DDP stops at a parameter that gets no gradient."""
    settings = {"out_norm": out_norm, "pyramid": pyramid, "checkpointing": checkpointing}
    model = make(source, out_indices, **settings)
    loss = sum(x.square().sum() for x in model(images(32, 48)))
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert model.model.depth == max(out_indices) + 1


def test_frozen_means_no_gradient_and_eval_mode():
    model = make(frozen=True, pyramid=False, drop_path=0.9).train()
    batch = images(32, 32)
    assert model.training and not any(m.training for m in model.model.modules())
    maps = model(batch)
    assert not any(x.requires_grad for x in maps)
    assert not any(p.requires_grad for p in model.parameters())
    for a, b in zip(maps, make(pyramid=False).eval()(batch), strict=True):
        assert torch.equal(a, b)


def test_a_pyramid_on_a_frozen_backbone_is_trained():
    model = make(frozen=True).train()
    sum(x.sum() for x in model(images(32, 32))).backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert trained == {n for n, _ in model.named_parameters() if n.startswith("fpn")}
    assert model.fpn1[1].training


def test_drop_path_rises_over_the_whole_depth():
    blocks = make(out_indices=(0, 0, 1, 2), drop_path=0.3).model.blocks
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])
    assert all(block.drop_path1.training for block in blocks)


def test_mm_libraries_initialise_nothing_anew():
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_swin_takes_the_weights_of_a_checkpoint():
    model, batch = make(f"{SWIN}?seed=1", (1, 3, 5, 7), drop_path=0.2).eval(), images(32, 64)
    again = make(None, (1, 3, 5, 7), arch=arch_of(model.model)).eval()
    again.load_state_dict(model.state_dict())
    for a, b in zip(again(batch), model(batch), strict=True):
        assert torch.equal(a, b)


def test_an_arch_takes_the_weights_of_a_checkpoint():
    model, batch = make(f"{SOURCE}?seed=1", drop_path=0.2, out_norm=True), images(32, 48)
    model.eval()
    arch = arch_of(model.model)
    assert arch.items() >= ARCH.items() and "drop_path" not in arch
    again = make(None, arch=arch, out_norm=True).eval()
    assert not torch.equal(again.model.pos_embed, model.model.pos_embed)
    again.load_state_dict(model.state_dict())
    for a, b in zip(again(batch), model(batch), strict=True):
        assert torch.equal(a, b)


def test_a_backbone_without_an_arch_is_named():
    with pytest.raises(UserError, match="RawPixels cannot be rebuilt"):
        arch_of(load_backbone("pixels:32").backbone)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"source": None}, "exactly one"),
        ({"sha256": "0" * 64}, "were changed since this evaluation began"),
        ({"arch": ARCH}, "exactly one"),
        ({"source": "pixels:32"}, "'pixels:32' gives no feature maps"),
        ({"source": None, "arch": ARCH | {"name": "vit_nan"}}, "did you mean 'vit_nano'"),
        ({"source": None, "arch": ARCH | {"patch": 8}}, "'patch'.*give keys of BackboneConfig"),
        ({"out_indices": (3, 5, 7, 11)}, r"\(3, 5, 7, 11\) .* 4 blocks; use .*\(0, 1, 2, 3\)"),
        ({"out_indices": (0, 1, 2, -1)}, "do not name blocks 0 to 3"),
        ({"out_indices": (), "pyramid": False}, "do not name blocks"),
        (
            {"source": SWIN, "out_indices": (3, 5, 7, 11)},
            r"blocks 0 to 7 .* use out_indices=\(1, 3, 5, 7\)",
        ),
        ({"out_indices": (3,)}, "1 taps but the pyramid has 4 levels.*pyramid=False"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_taps_are_the_papers():
    assert taps(load_backbone(SOURCE).backbone) == TAPS
    assert taps(load_backbone(SWIN).backbone) == (1, 3, 5, 7)
    assert (
        spread_taps(12) == (3, 5, 7, 11)
        and spread_taps(24) == (7, 11, 15, 23)
        and spread_taps(4) == TAPS
    )
    for depth in range(1, 40):
        found = spread_taps(depth)
        assert len(found) == 4 and list(found) == sorted(found)
        assert found[0] >= 0 and found[-1] == depth - 1
    assert spread_taps(8) == (1, 3, 5, 7) and spread_taps(2) == (0, 0, 1, 1)


@pytest.mark.slow  # imports mmdet and mmseg
def test_both_libraries_build_it():
    from mmdet.registry import MODELS as DETECTION
    from mmseg.registry import MODELS as SEGMENTATION

    settings = {"type": "SSLBackbone", "source": SOURCE, "out_indices": TAPS}
    for registry, scope in ((DETECTION, "mmdet"), (SEGMENTATION, "mmseg")):
        assert isinstance(registry.build(dict(settings)), SSLBackbone)
        with DefaultScope.overwrite_default_scope(scope):
            assert isinstance(MODELS.build(dict(settings)), SSLBackbone)


@pytest.mark.slow  # a fresh interpreter
def test_registering_imports_neither_library():
    code = (
        "import sslbench.benchmarks.dense.register, sys; "
        "print([name for name in ('mmdet', 'mmseg', 'mmcv.ops') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
