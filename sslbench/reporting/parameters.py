"""How many parameters an architecture has, told by its name alone."""

from __future__ import annotations

import re

from sslbench.backbones.config import LETTERS, SIZES, SWIN_PATCH, SWINS


def parameters_of(arch: str) -> int:
    """Parameters of the backbone that records call `arch`; 0 for a name that is none of ours.

    Without what depends on the input's size (tables of positions) or on a recipe's choice (mask
    token, layer scale, registers).
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
    """Two norms, attention and an MLP four times as wide, all with biases."""
    return 12 * width**2 + 13 * width


def _vit(width: int, depth: int, patch: int) -> int:
    embedding = 3 * patch**2 * width + width
    return embedding + width + depth * _block(width) + 2 * width  # [CLS] and the last norm


def _swin(width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> int:
    total = 3 * SWIN_PATCH**2 * width + 3 * width  # with its norm
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        wide = width << stage
        total += depth * (_block(wide) + (2 * window - 1) ** 2 * count)
        if stage + 1 < len(depths):
            total += 8 * wide**2 + 8 * wide  # merges 4 tokens of `wide` into one of 2 * `wide`
    return total + 2 * (width << (len(depths) - 1))
