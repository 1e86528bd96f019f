"""timm: the official ViT's names, positions without [CLS] where there are registers, and its Swin.

Names: `timm/models/{vision_transformer,swin_transformer}.py`. Its own published weights are sources
too: "timm:NAME".
"""

import difflib
import math
from typing import Any

import timm
import torch

from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints.families.dino import VIT
from sslbench.checkpoints.families.family import (
    CLASSIFIER,
    Family,
    Layout,
    Names,
    Statistics,
    Tensors,
)
from sslbench.checkpoints.families.swin import NORM_EPS
from sslbench.errors import UserError

HUB = "timm"  # what such a source begins with

VIT_NAMES: Names = {**VIT.names, "register_tokens": "reg_token"}
# timm shrinks the map at the start of a stage, the official Swin at the end of the one before
SWIN_NAMES: Names = {f"layers.{n}.downsample.": f"layers.{n + 1}.downsample." for n in range(3)}


def with_cls_position(tensors: Tensors) -> Tensors:
    """A ViT's tensors under our names, with a position of [CLS] where the table has none.

    timm adds that of [CLS] to the token itself, so ours is zero.
    """
    positions = tensors.get("pos_embed")
    if positions is None or math.isqrt(count := positions.shape[1]) ** 2 != count:
        return tensors
    zero = torch.zeros_like(positions[:, :1])
    return tensors | {"pos_embed": torch.cat([zero, positions], dim=1)}


def for_writing(tensors: Tensors, config: BackboneConfig) -> tuple[Tensors, Names]:
    """A backbone's tensors under our names as timm orders them, and timm's names."""
    if config.family == "swin":
        return tensors, SWIN_NAMES
    if config.registers:
        positions = tensors["pos_embed"]
        tensors = tensors | {
            "cls_token": tensors["cls_token"] + positions[:, :1],
            "pos_embed": positions[:, 1:].clone(),
        }
    return tensors, VIT_NAMES


TIMM = Family(
    name="timm",
    layouts=(
        Layout(
            marks=(r"reg(ister)?_tokens?",),
            unless=r"layers\..*",
            names={"register_tokens": "reg_token"},
            arrange=with_cls_position,
        ),
        Layout(marks=(r"layers\.3\.downsample\..*",), names=SWIN_NAMES, norm_eps=NORM_EPS),
    ),
    drops={r"(.*\.)?fc\.(weight|bias)": CLASSIFIER},
    classifier={
        r"(?:.*\.)?fc_norm\.(weight|bias)": "norm",
        r"(?:.*\.)?head\.(?:fc\.)?(weight|bias)": "linear",
    },
)


def download(name: str, source: str) -> tuple[Tensors, Statistics]:
    """The weights that timm publishes under a name, with mean and std of their inputs.

    Raises UserError, naming `source`, for unknown names and where they cannot be fetched.
    """
    known = timm.list_models() + timm.list_pretrained()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}" if close else "see timm.list_pretrained()"
        raise UserError(f"timm knows no model {name!r}; {hint}?")
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client fails in many ways
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source} cannot be fetched ({reason}); download its file and give that as a path."
        ) from error
    cfg: Any = model.pretrained_cfg
    return model.state_dict(), (cfg["mean"], cfg["std"])
