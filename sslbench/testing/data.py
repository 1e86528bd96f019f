"""Small data for the kits: coloured noise whose colour is the class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sslbench.benchmark import Splits
from sslbench.data.dataset import ArrayImages, digest

SIDE = 32  # pixels
COLOURS = np.array(
    [(200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60), (60, 200, 200), (200, 60, 200)]
)
CLASSES = ("red", "green", "blue", "yellow", "cyan", "magenta")  # of COLOURS


def pixels(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (count, 32, 32, 3) and int64 (count,), the classes in turn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    noise = rng.normal(0, 40, (count, SIDE, SIDE, 3))
    images = COLOURS[labels][:, None, None, :] + noise
    return images.clip(0, 255).astype(np.uint8), labels


def write_folder(root: Path, count: int = 8) -> Path:
    """A folder with `count` training and 6 test images in two classes."""
    for split, images, seed in (("train", count, 0), ("test", 6, 1)):
        for i, (image, label) in enumerate(zip(*pixels(images, 2, seed), strict=True)):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i}.png")
    return root


def splits(train: int = 48, test: int = 24, classes: int = len(CLASSES)) -> Splits:
    """Labelled images in memory."""
    parts = []
    for split, count, seed in (("train", train, 0), ("test", test, 1)):
        images, labels = pixels(count, classes, seed)
        parts.append(
            ArrayImages(
                name="colours",
                split=split,
                names=[f"{split}/{i}.png" for i in range(count)],
                labels=labels,
                classes=CLASSES[:classes],
                crop_ratio=1.0,
                pixels=images,
            )
        )
    fingerprint = digest(*(part.fingerprint for part in parts))
    return Splits("colours", fingerprint, parts[0].classes, parts[0], parts[1])
