"""The layer and the learning rate's scale of every parameter, against BEiT's and iBOT's code."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.backbones.layers import LayerRate, find_backbone, layer_rates


def make(name: str, positions: str = "absolute", patch: int = 16) -> nn.Module:
    """A backbone of full size with a mask token, without memory."""
    with torch.device("meta"):
        config = BackboneConfig(name, patch, 224, positions=positions)
        return build_backbone(config, mask_token=True)


def official_vit(name: str, layers: int) -> int:
    """`get_num_layer_for_vit` of beit/optim_factory.py; layers: blocks + 2."""
    if name in ("cls_token", "mask_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks") else layers - 1


def official_swin(name: str, layers: int, depths=(2, 2, 6, 2)) -> int:
    """`get_num_layer_for_swin` of iBOT's evaluation/classification_layer_decay/optim_factory.py."""
    if not name.startswith("layers"):
        return official_vit(name, layers)
    stage = int(name.split(".")[1])
    block = int(name.split(".")[3]) if "blocks" in name else depths[stage] - 1
    return sum(depths[:stage]) + block + 1


@pytest.mark.parametrize("decay", [0.65, 0.75, 0.9])
@pytest.mark.parametrize(
    "model, official, blocks",
    [
        (("vit_small",), official_vit, 12),
        (("vit_large",), official_vit, 24),
        (("beit_base", "relative"), official_vit, 12),
        (("beit_base", "shared relative"), official_vit, 12),
        (("swin_tiny", "absolute", 4), official_swin, 12),
    ],
)
def test_every_layer_is_the_published_one(model, official, blocks, decay):
    backbone = make(*model)
    rates = layer_rates(nn.ModuleDict({"net": backbone, "head": nn.Linear(2, 2)}), decay)
    values = [decay ** (blocks + 1 - i) for i in range(blocks + 2)]  # of LayerDecayValueAssigner
    expected = {f"net.{n}": official(n, blocks + 2) for n, _ in backbone.named_parameters()}
    expected |= {"head.weight": blocks + 1, "head.bias": blocks + 1}
    assert {name: rate.layer for name, rate in rates.items()} == expected
    assert all(rate.scale == pytest.approx(values[rate.layer]) for rate in rates.values())


def test_a_table_of_all_blocks_learns_at_the_full_rate_and_a_block_s_own_with_its_block():
    name = "relative_position_bias_table"
    assert layer_rates(make("beit_base", "shared relative"), 0.5)[f"rel_pos_bias.{name}"] == (13, 1)
    own = layer_rates(make("beit_base", "relative"), 0.5)[f"blocks.3.attn.{name}"]
    assert own == LayerRate(4, 0.5**9)


def test_of_a_student_and_its_teacher_the_student_counts():
    student, teacher = make("vit_tiny"), make("vit_tiny").requires_grad_(False)
    pair = nn.ModuleDict({"teacher": teacher, "student": student})
    assert find_backbone(pair) == ("student.", student)
    rates = layer_rates(pair, 0.5)
    assert rates.keys() == {f"student.{n}" for n, _ in student.named_parameters()}


def test_frozen_parameters_have_no_rate():
    backbone = make("vit_tiny")
    backbone.pos_embed.requires_grad_(False)
    assert "pos_embed" not in layer_rates(backbone, 0.5)
    frozen = nn.ModuleDict({"net": backbone.requires_grad_(False), "head": nn.Linear(2, 2)})
    assert layer_rates(frozen, 0.5).keys() == {"head.weight", "head.bias"}


def test_no_backbone_or_two_that_train_have_no_layers():
    with pytest.raises(LookupError, match="no backbone of sslbench in Linear"):
        find_backbone(nn.Linear(2, 2))
    with pytest.raises(LookupError, match="2 backbones that train of sslbench in ModuleList"):
        layer_rates(nn.ModuleList([make("vit_tiny"), make("vit_tiny")]), 0.5)
    frozen = [make("vit_tiny").requires_grad_(False) for _ in range(2)]
    with pytest.raises(LookupError, match="no backbone that trains of sslbench"):
        find_backbone(nn.ModuleList(frozen))
