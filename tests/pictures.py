"""Folders of tiny images; imports no torch, since every room's tests read some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(folder: Path, count: int = 40, seed: int = 0) -> Path:
    """`count` PNGs of 32 px: noise over a colour, so that no two are alike."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = rng.integers(0, 128, (32, 32, 3)) + rng.integers(0, 128, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:03d}.png")
    return folder
