"""The number of parameters of an architecture, computed from its name."""

from __future__ import annotations

import re

from sslbench.backbones.config import LETTERS, SIZES, SWIN_PATCH, SWINS


def parameters_of(arch: str) -> int:
    """Return the parameters of the backbone that records call `arch`; 0 for an unknown name.

    Excludes those that depend on the input's size (position tables) or on the recipe (mask token,
    layer scale, registers).
    """
    match = re.fullmatch(r"(ViT|Swin)-(\w+)/(\d+)(?: rel)?", arch)
    names = {letter: name for name, letter in LETTERS.items()}
    if not match:
        return 0
    family, size, number = match[1], match[2], int(match[3])
    if family == "ViT":
        known = SIZES.get(f"vit_{names.get(size, '')}")
        return _vit(*known[:2], number) if known else 0
    stages = SWINS.get(f"swin_{'tiny' if size == 'T' else names.get(size, '')}")
    return _swin(*stages[:3], number) if stages else 0


def _block(width: int) -> int:
    """Count two norms, attention and an MLP four times as wide, all with biases."""
    return 12 * width**2 + 13 * width


def _vit(width: int, depth: int, patch: int) -> int:
    embedding = 3 * patch**2 * width + width
    return embedding + width + depth * _block(width) + 2 * width  # [CLS] and the last norm


def _swin(width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> int:
    total = 3 * SWIN_PATCH**2 * width + 3 * width  # with its norm
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        stage_width = width << stage
        total += depth * (_block(stage_width) + (2 * window - 1) ** 2 * count)
        if stage + 1 < len(depths):
            total += 8 * stage_width**2 + 8 * stage_width  # merges 4 tokens into one twice as wide
    return total + 2 * (width << (len(depths) - 1))
