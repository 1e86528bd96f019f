"""What other projects call our parameters, as tables of name prefixes that are read both ways.

`{}` stands for a number. Of several matching prefixes the first counts, so the general ones come
last. Ours are the official names of BEiT and Swin; a ViT's differ by `patch_embed.proj`, see
`OFFICIAL`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")  # a tensor, or what stands for it

Names = Mapping[str, str]  # prefix of ours -> prefix of theirs

# DINO, iBOT, DeiT, MAE, DINOv2, BEiT (`ibot/models/vision_transformer.py:134-293`)
OFFICIAL: Names = {"patch_embed.": "patch_embed.proj."}
# timm's ViT keeps positions of [CLS] apart where there are registers; see `official.py`
TIMM_VIT: Names = {**OFFICIAL, "register_tokens": "reg_token"}
# timm shrinks the map at the start of a stage, the official Swin at the end of the one before
TIMM_SWIN: Names = {f"layers.{n}.downsample.": f"layers.{n + 1}.downsample." for n in range(3)}

_MM_BLOCK: Names = {
    "blocks.{}.norm1.": "layers.{}.ln1.",
    "blocks.{}.norm2.": "layers.{}.ln2.",
    "blocks.{}.mlp.fc1.": "layers.{}.ffn.layers.0.0.",
    "blocks.{}.mlp.fc2.": "layers.{}.ffn.layers.1.",
    "blocks.{}.ls1.gamma": "layers.{}.attn.gamma1.weight",
    "blocks.{}.ls2.gamma": "layers.{}.ffn.gamma2.weight",
    "blocks.{}.": "layers.{}.",
}
# mmpretrain's VisionTransformer and BEiT (mmpretrain/models/backbones/{vision_transformer,beit}.py)
MM_VIT: Names = {
    "patch_embed.": "patch_embed.projection.",
    "norm.": "ln1.",
    "fc_norm.": "ln2.",
    **_MM_BLOCK,
}
# mmpretrain's and mmdet's Swin (mmpretrain/models/backbones/swin_transformer.py)
MM_SWIN: Names = {
    "patch_embed.proj.": "patch_embed.projection.",
    "norm.": "norm3.",
    "layers.{}.blocks.{}.attn.": "stages.{}.blocks.{}.attn.w_msa.",
    "layers.{}.blocks.{}.mlp.fc1.": "stages.{}.blocks.{}.ffn.layers.0.0.",
    "layers.{}.blocks.{}.mlp.fc2.": "stages.{}.blocks.{}.ffn.layers.1.",
    "layers.{}.": "stages.{}.",
}


def to_theirs(tensors: Mapping[str, T], names: Names) -> dict[str, T]:
    """`tensors` under their names."""
    return _renamed(tensors, names)


def to_ours(tensors: Mapping[str, T], names: Names) -> dict[str, T]:
    """`tensors` under our names."""
    return _renamed(tensors, {theirs: ours for ours, theirs in names.items()})


def unfolded(reduction: Tensor, back: bool = False) -> Tensor:
    """A Swin downsampling's (..., 4 C) weights in the order in which mm's `nn.Unfold` lays out 2x2.

    Official order: the four cells by columns, each with its C channels; mm's: each channel with its
    four cells by rows (mmdet/models/backbones/swin.py, `swin_converter`). back: the inverse.
    """
    cells = (-1, 4) if back else (4, -1)
    x = reduction.unflatten(-1, cells)
    x = x.transpose(-1, -2) if back else x
    x = x[..., [0, 2, 1, 3], :]
    return (x if back else x.transpose(-1, -2)).flatten(-2)


def _renamed(tensors: Mapping[str, T], prefixes: Names) -> dict[str, T]:
    rules = [
        (re.compile(re.escape(a).replace(r"\{\}", r"(\d+)")), _template(b))
        for a, b in prefixes.items()
    ]
    return {_rename(key, rules): tensor for key, tensor in tensors.items()}


def _template(prefix: str) -> str:
    """ "layers.{}.x" as a replacement with numbered groups."""
    parts = prefix.split("{}")
    return parts[0] + "".join(rf"\{n}{part}" for n, part in enumerate(parts[1:], start=1))


def _rename(key: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, template in rules:
        if match := pattern.match(key):
            return match.expand(template) + key[match.end() :]
    return key
