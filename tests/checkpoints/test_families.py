"""What the files of `checkpoints/families` say, and that each of them counts."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints import families
from sslbench.checkpoints.families import mmpretrain, reason_to_drop, timm, to_our_names, to_theirs
from sslbench.checkpoints.families.family import (
    CLASSIFIER,
    COMPUTED,
    PRETRAINING,
    Family,
)
from sslbench.checkpoints.families.mae import DECODER
from sslbench.errors import UserError
from tests.checkpoints.layouts import NANO, beit, prefixed, swin, vit
from tests.checkpoints.test_official import SWIN_NANO, load, tiny_others
from tests.checkpoints.test_transformers import made

__all__ = ["tiny_others"]

FILES = [p for p in Path(families.__file__).parent.glob("*.py") if p.stem not in ("__init__",)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_holds_families_that_are_read(path):
    module = import_module(f"{families.__name__}.{path.stem}")
    held = [value for value in vars(module).values() if isinstance(value, Family)]
    assert bool(held) == (path.stem != "family")
    assert all(family in families.FAMILIES for family in held)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("layers.0.blocks.1.attn_mask", COMPUTED),
        ("blocks.0.attn.relative_position_index", COMPUTED),
        ("lm_head.weight", PRETRAINING),
        ("neck.decoder_embed.weight", PRETRAINING),
        ("dino_head.mlp.0.weight", PRETRAINING),
        ("momentum_projector.2.bias", PRETRAINING),
        ("decoder_pos_embed", DECODER),
        ("decoder.head.weight", DECODER),
        ("head.weight", CLASSIFIER),
        ("head.layers.head.bias", CLASSIFIER),
        ("fc_norm.weight", CLASSIFIER),
        ("pooler.dense.bias", "a pooler behind the features"),
        ("norm.weight", None),
        ("blocks.0.mlp.fc1.weight", None),
        ("head.mlp.0.weight", None),
    ],
)
def test_what_is_left_out_has_one_reason(name, reason):
    assert reason_to_drop(name) == reason


def our_names(official):
    """Under our names, as a backbone has them."""
    return to_our_names(official)[0]


@pytest.mark.parametrize("writer", [timm.for_writing, mmpretrain.for_writing])
@pytest.mark.parametrize("kind", ["vit", "beit", "swin"])
def test_what_is_written_is_recognised_and_gets_our_names_and_order_again(writer, kind):
    official = {"vit": vit(**NANO), "beit": beit(**NANO, heads=2), "swin": swin(**SWIN_NANO)}[kind]
    ours = our_names(official)
    config = BackboneConfig(f"{kind}_nano", patch_size=4 if kind == "swin" else 16)
    theirs = to_theirs(*writer(ours, config))
    assert theirs.keys() != ours.keys()
    again, layouts = to_our_names(theirs)
    for layout in layouts:
        again = layout.arrange(again) if layout.arrange else again
    assert again.keys() == ours.keys()
    assert all(torch.equal(again[name], ours[name]) for name in ours)
    half = [layout for layout in layouts if layout.half_range]
    assert len(half) == (kind == "beit")
    eps = {layout.norm_eps for layout in layouts if layout.norm_eps}
    assert eps == ({1e-5} if kind == "swin" else set())


def test_a_registers_position_goes_where_it_came_from():
    ours = our_names(vit(**NANO, layer_scale=True, registers=4))
    tensors, names = timm.for_writing(ours, BackboneConfig("vit_nano", registers=4))
    theirs = to_theirs(tensors, names)
    assert theirs["reg_token"].shape[1] == 4 and theirs["pos_embed"].shape[1] == 14**2
    again, (*_, registers) = to_our_names(theirs)
    again = registers.arrange(again)
    assert torch.equal(again["pos_embed"][:, 1:], ours["pos_embed"][:, 1:])
    for table in (ours, again):  # the sum of both is what the network sees
        table["sum"] = table["cls_token"] + table["pos_embed"][:, :1]
    assert torch.equal(again["sum"], ours["sum"])


def test_names_of_one_family_mean_something_else_in_another():
    gamma = {"blocks.0.gamma_1": 1}
    assert our_names(gamma) == {"blocks.0.ls1.gamma": 1}  # iBOT
    with_bias = gamma | {"blocks.0.attn.q_bias": 2}
    assert our_names(with_bias) == with_bias  # BEiT
    assert our_names({"mask_token": 1}) == {"mask_token": 1}
    decoder = {"mask_token": 1, "decoder_embed.weight": 2}
    assert set(our_names(decoder)) == {"decoder_mask_token", "decoder_embed.weight"}  # MAE


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda t: t[:8], r"x.pth is damaged: \S*q_proj.weight, \S*k_proj.weight, .* differ in sh"),
        (
            lambda t: t * float("nan"),
            r"is unfit: its \S*layers.1.attention.k_proj.weight holds val",
        ),
        (lambda t: t.int(), r"its \S*layers.1.attention.k_proj.weight holds int32"),
    ],
)
def test_a_part_of_joined_attention_is_named_as_in_the_file(tmp_path, change, sentence):
    tensors = prefixed(dict(made("vit").state_dict()), "model.")
    key = "model.layers.1.attention.k_proj.weight"
    with pytest.raises(UserError, match=sentence) as refused:
        load(tmp_path, tensors | {key: change(tensors[key])})
    assert "\n" not in str(refused.value)


def test_joined_attention_beside_a_joined_one_is_not_lost(tmp_path):
    tensors = dict(made("vit").state_dict())
    both = tensors | {"blocks.0.attn.qkv.weight": torch.ones(48, 16)}
    with pytest.raises(UserError, match=r"nothing explains its blocks.0.attn.qkv.weight"):
        load(tmp_path, both)
