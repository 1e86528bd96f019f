"""Label maps: one number per pixel in a PNG file, read upright like the images they belong to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sslbench.data.checks import READER
from sslbench.data.reading import BrokenImage, opened, turn_of
from sslbench.data.remembered import FAILED, remembered

IGNORED = 255  # unlabelled like 0: most tools write it where no label is right
UNFIT = "?"  # prefix of a cached reason
SCALED = ("1", "L;2", "L;4")  # Pillow rescales numbers of fewer than 8 bits per pixel
EXPECTED = "a PNG file of one 8-bit channel"


class UnfitMap(Exception):
    """A file can be decoded but is not a label map; the message says why."""


def read_label_map(path: str | Path) -> np.ndarray:
    """Return the labels in a PNG file, uint8 (h, w), upright; of a palette, the indices.

    Raises `BrokenImage` if the file cannot be decoded and `UnfitMap` if it is of another kind.
    """
    with opened(path) as image:
        kind, depth = f"{image.format} {image.mode}", _depth(image)
        image.load()
        turn = turn_of(image)
        labels = np.asarray(image if turn is None else image.transpose(turn))
    if not kind.startswith("PNG") or image.mode not in ("L", "P", "I;16") or depth in SCALED:
        raise UnfitMap(f"cannot be read as {EXPECTED} (found: {kind})")
    if labels.max(initial=0) > IGNORED:
        raise UnfitMap(f"has the label {labels.max()}, above {IGNORED}")
    return labels.astype(np.uint8)


def _depth(image: Image.Image) -> object:
    """Return the raw mode of an image that is not loaded yet, e.g. "L;4"."""
    tiles = getattr(image, "tile", None)
    return tiles[0][3] if tiles else ""


class LabelInfo:
    """The result of decoding a label map.

    size: width and height; pixels: label -> number of pixels; reason: why the file is broken;
    unfit: why it is not a label map.
    """

    def __init__(self, text: str) -> None:
        self.reason = text[1:] if text.startswith(FAILED) else ""
        self.unfit = text[1:] if text.startswith(UNFIT) else ""
        values = {} if self.reason or self.unfit else json.loads(text)
        self.size: tuple[int, int] = tuple(values.get("size", (0, 0)))
        self.pixels = {int(k): n for k, n in values.get("pixels", {}).items()}


def inspect_label_maps(folder: Path, names: list[str]) -> list[LabelInfo]:
    """Decode the label maps `folder`/name in order; results are cached until a file changes."""
    return [LabelInfo(text) for text in remembered(folder, names, f"labels {READER}", _inspect)]


def _inspect(path: str) -> str:
    try:
        labels = read_label_map(path)
    except BrokenImage as error:
        return f"{FAILED}{error.reason}"
    except UnfitMap as error:
        return f"{UNFIT}{error}"
    counts = np.bincount(labels.ravel(), minlength=IGNORED + 1)
    pixels = {int(k): int(counts[k]) for k in np.flatnonzero(counts)}
    return json.dumps({"size": labels.shape[::-1], "pixels": pixels})
