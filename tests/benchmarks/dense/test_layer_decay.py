"""Learning rates and weight decay per layer, against the papers' rule."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import LinearLR, PolyLR, build_optim_wrapper
from torch import nn

from sslbench.benchmarks.dense import register  # noqa: F401 (fills the registries)
from sslbench.benchmarks.dense.backbone import SSLBackbone
from sslbench.errors import UserError

SMALL = {"name": "vit_small", "patch_size": 16, "image_size": 224}
BASE = {"name": "vit_base", "patch_size": 16, "image_size": 224}
LARGE = {"name": "vit_large", "patch_size": 16, "image_size": 224}
LR, DECAY = 1e-4, 0.05


def make_model(arch, out_indices=(3, 5, 7, 11), **settings) -> nn.Module:
    """A backbone and a head as in mmdet and mmseg, without memory."""
    with torch.device("meta"):
        backbone = SSLBackbone(arch=arch, out_indices=out_indices, **settings)
        return nn.ModuleDict({"backbone": backbone, "decode_head": nn.Conv2d(4, 4, 1)})


def build(model: nn.Module, optimizer=None, **paramwise):
    return build_optim_wrapper(
        model,
        {
            "type": "PrecisionOptimWrapper",
            "constructor": "SSLLayerDecay",
            "paramwise_cfg": paramwise,
            "optimizer": optimizer or {"type": "AdamW", "lr": LR, "weight_decay": DECAY},
        },
    )


def settings_of(model: nn.Module, **paramwise) -> dict[str, tuple[float, float]]:
    """Name of each trained parameter -> (learning rate / base rate, weight decay)."""
    groups = build(model, **paramwise).optimizer.param_groups
    found = {id(p): (g["lr"] / LR, g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(found)  # each in one group
    return {n: found[id(p)] for n, p in model.named_parameters() if id(p) in found}


def official(name: str, ndim: int, layers: int, rate: float) -> tuple[float, float]:
    """layer_decay_optimizer_constructor.py:17-26,44-65 of iBOT's detection code."""
    name = name.replace("backbone.model.", "backbone.")
    if name.startswith(("backbone.cls_token", "backbone.pos_embed", "backbone.patch_embed")):
        layer = 0
    elif name.startswith("backbone.blocks"):
        layer = int(name.split(".")[2]) + 1
    else:
        layer = layers + 1
    exempt = ndim == 1 or name.endswith(".bias") or name in ("pos_embed", "cls_token")
    return rate ** (layers + 2 - layer - 1), 0.0 if exempt else DECAY


@pytest.mark.parametrize("rate", [0.65, 0.75, 0.9])
@pytest.mark.parametrize(
    "arch, out_indices, depth",
    [(SMALL, (3, 5, 7, 11), 12), (BASE, (3, 5, 7, 11), 12), (LARGE, (7, 11, 15, 23), 24)],
)
def test_every_parameter_follows_the_papers_rule(arch, out_indices, depth, rate):
    model = make_model(arch, out_indices, out_norm=True)
    found = settings_of(model, layer_decay=rate)
    expected = {n: official(n, p.ndim, depth, rate) for n, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    for name, (scale, decay) in expected.items():
        assert found[name] == (pytest.approx(scale), decay), name


def test_a_few_rates_written_out():
    """recipes 5.6, ViT-S/16: layer decay .75."""
    found = settings_of(make_model(SMALL, out_norm=True), layer_decay=0.75)
    near = pytest.approx
    assert found["backbone.model.pos_embed"] == (near(0.75**13), DECAY)  # trap T29
    assert found["backbone.model.cls_token"] == (near(0.75**13), DECAY)
    assert found["backbone.model.patch_embed.bias"] == (near(0.75**13), 0.0)
    assert found["backbone.model.blocks.0.attn.qkv.weight"] == (near(0.75**12), DECAY)
    assert found["backbone.model.blocks.11.mlp.fc1.weight"] == (near(0.75), DECAY)
    assert found["backbone.model.blocks.11.norm1.weight"] == (near(0.75), 0.0)
    assert found["backbone.model.norm.weight"] == (1.0, 0.0)
    assert found["backbone.fpn1.0.weight"] == (1.0, DECAY)
    assert found["backbone.fpn1.1.weight"] == (1.0, 0.0)
    assert found["decode_head.weight"] == (1.0, DECAY)
    assert found["decode_head.bias"] == (1.0, 0.0)


def test_swin_s_layers_are_its_blocks():
    """SimMIM's get_swin_layer: embeddings 0, block i at i + 1, merging with the block before it."""
    swin = {"name": "swin_tiny", "patch_size": 4, "image_size": 224}
    found = settings_of(make_model(swin, (1, 3, 9, 11)), layer_decay=0.9)
    near, model = pytest.approx, "backbone.model"
    assert found[f"{model}.patch_embed.proj.weight"] == (near(0.9**13), DECAY)
    assert found[f"{model}.layers.0.blocks.0.mlp.fc1.weight"] == (near(0.9**12), DECAY)
    assert found[f"{model}.layers.0.downsample.reduction.weight"] == (near(0.9**11), DECAY)
    assert found[f"{model}.layers.2.blocks.5.norm1.bias"] == (near(0.9**3), 0.0)
    assert found[f"{model}.layers.3.blocks.1.attn.qkv.weight"] == (near(0.9), DECAY)
    assert found["backbone.norms.3.weight"] == (1.0, 0.0)


def test_positions_can_be_exempt():
    model = make_model(SMALL)
    decayed, exempt = (
        settings_of(model, layer_decay=0.75, decay_positions=flag) for flag in (True, False)
    )
    changed = {name for name in decayed if decayed[name] != exempt[name]}
    assert changed == {"backbone.model.pos_embed", "backbone.model.cls_token"}
    assert {exempt[name][1] for name in changed} == {0.0}


def test_without_layer_decay_all_learn_at_the_base_rate():
    found = settings_of(make_model(SMALL))
    assert {scale for scale, _ in found.values()} == {1.0}
    assert {decay for _, decay in found.values()} == {0.0, DECAY}


def test_groups_can_be_read():
    groups = build(make_model(SMALL), layer_decay=0.5).optimizer.param_groups
    names = [group["group_name"] for group in groups]
    blocks = [f"block {i}, {kind}" for i in range(12) for kind in ("no decay", "decay")]
    embeddings, rest = (
        [f"{part}, {kind}" for kind in ("no decay", "decay")] for part in ("embeddings", "rest")
    )
    assert names == [*embeddings, *blocks, *rest]
    assert [group["lr_scale"] * LR for group in groups] == [group["lr"] for group in groups]


def test_frozen_parameters_are_left_out():
    model = make_model(SMALL, frozen=True, pyramid=False)
    assert settings_of(model).keys() == {"decode_head.weight", "decode_head.bias"}


def test_schedules_keep_the_ratios():
    wrapper = build(make_model(SMALL), layer_decay=0.75)
    groups = wrapper.optimizer.param_groups
    start = [group["lr"] for group in groups]
    schedules = [
        LinearLR(wrapper, start_factor=1e-6, by_epoch=False, begin=0, end=5),
        PolyLR(wrapper, power=1.0, eta_min=0.0, by_epoch=False, begin=5, end=15),
    ]
    assert groups[0]["lr"] == pytest.approx(start[0] * 1e-6)
    for _ in range(10):
        wrapper.step()
        for schedule in schedules:
            schedule.step()
    for group, rate in zip(groups, start, strict=True):
        assert group["lr"] == pytest.approx(rate * 4 / 9) and group["initial_lr"] == rate


@pytest.mark.parametrize(
    "paramwise, optimizer, message",
    [
        ({"layer_decy": 0.5}, {}, "unknown paramwise_cfg 'layer_decy'.*did you mean 'layer_decay'"),
        ({}, {"type": "AdamW", "lr": LR}, "leaves lr or weight_decay out"),
        ({}, {"type": "AdamW", "weight_decay": DECAY}, "leaves lr or weight_decay out"),
    ],
)
def test_wrong_settings_are_one_sentence(paramwise, optimizer, message):
    with pytest.raises(UserError, match=message):
        build(make_model(SMALL), optimizer, **paramwise)


def test_a_foreign_backbone_is_refused():
    with pytest.raises(UserError, match="no backbone of sslbench in Conv2d"):
        build(nn.Conv2d(1, 1, 1))
