"""Label maps: one number a pixel in a PNG file, read upright like the images they belong to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sslbench.data.checks import READER
from sslbench.data.reading import BrokenImage, opened, turn_of
from sslbench.data.remembered import FAILED, remembered

IGNORED = 255  # as unlabelled as 0: what most tools write where no label is right
UNFIT = "?"
SCALED = ("1", "L;2", "L;4")  # Pillow stretches the numbers of less than 8 bits a pixel
WANTED = "a PNG file of one 8-bit channel"


class UnfitMap(Exception):
    """A file that can be decoded but holds no labels; the text says why."""


def read_label_map(path: str | Path) -> np.ndarray:
    """The labels in a PNG file, uint8 (h, w), upright; a palette's numbers, not its colours.

    Raises `BrokenImage` for a file that cannot be decoded and `UnfitMap` for another kind of file.
    """
    with opened(path) as image:
        kind, depth = f"{image.format} {image.mode}", _depth(image)
        image.load()
        turn = turn_of(image)
        labels = np.asarray(image if turn is None else image.transpose(turn))
    if not kind.startswith("PNG") or image.mode not in ("L", "P", "I;16") or depth in SCALED:
        raise UnfitMap(f"cannot be read as {WANTED} (found: {kind})")
    if labels.max(initial=0) > IGNORED:
        raise UnfitMap(f"has the label {labels.max()}, above {IGNORED}")
    return labels.astype(np.uint8)


def _depth(image: Image.Image) -> object:
    """How Pillow unpacks the pixels of an image that is not loaded yet, e.g. "L;4"."""
    tiles = getattr(image, "tile", None)
    return tiles[0][3] if tiles else ""


class Labels:
    """What a label map holds: width and height; pixels by label; reason: why it is broken;
    unfit: why it is no label map."""

    def __init__(self, text: str) -> None:
        self.reason = text[1:] if text.startswith(FAILED) else ""
        self.unfit = text[1:] if text.startswith(UNFIT) else ""
        known = {} if self.reason or self.unfit else json.loads(text)
        self.size: tuple[int, int] = tuple(known.get("size", (0, 0)))
        self.pixels = {int(k): n for k, n in known.get("pixels", {}).items()}


def look_at_maps(folder: Path, names: list[str]) -> list[Labels]:
    """Decodes the maps `folder`/name in order; files seen before are remembered."""
    return [Labels(text) for text in remembered(folder, names, f"labels {READER}", _look)]


def _look(path: str) -> str:
    try:
        labels = read_label_map(path)
    except BrokenImage as error:
        return f"{FAILED}{error.reason}"
    except UnfitMap as error:
        return f"{UNFIT}{error}"
    counts = np.bincount(labels.ravel(), minlength=IGNORED + 1)
    found = {int(k): int(counts[k]) for k in np.flatnonzero(counts)}
    return json.dumps({"size": labels.shape[::-1], "pixels": found})
