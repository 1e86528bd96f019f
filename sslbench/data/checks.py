"""What the checks of annotated image trees share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from sslbench.data.reading import BrokenImage, opened
from sslbench.data.reading import upright_size as image_size

__all__ = ["SAMPLE", "Checked", "evenly", "grey_levels", "image_size"]

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


def grey_levels(path: Path) -> np.ndarray | None:
    """The values of an image with one 8-bit channel, uint8 (h, w); None for any other file."""
    try:
        with opened(path) as image:
            return np.asarray(image) if image.mode in ("L", "P") else None
    except BrokenImage:
        return None
