"""What the checks of annotated image trees share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

SAMPLE = 500  # files of a split that are opened; reading all of 118,000 would take minutes

T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """One split of a tree that holds together: images, class names and a hash of the content."""

    count: int
    classes: tuple[str, ...]
    fingerprint: str


def evenly(items: Sequence[T], limit: int = SAMPLE) -> list[T]:
    """All items, or `limit` of them at equal distances where there are more."""
    count = min(len(items), limit)
    return [items[k * len(items) // count] for k in range(count)]


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height by the file's header; None where that cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError):
        return None


def grey_levels(path: Path) -> np.ndarray | None:
    """The values of an image with one 8-bit channel, uint8 (h, w); None for any other file."""
    try:
        with Image.open(path) as image:
            return np.asarray(image) if image.mode in ("L", "P") else None
    except (OSError, SyntaxError, ValueError):
        return None
