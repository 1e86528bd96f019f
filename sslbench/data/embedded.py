"""The two embedded datasets: `shapes` (rendered on first use) and scikit-learn's `digits`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sslbench.data import shapes
from sslbench.data.dataset import ArrayImages, ImageDataset, InMemoryImages
from sslbench.data.folders import open_folder
from sslbench.storage.home import home

DIGITS_SIDE = 32  # pixels after upscaling
DIGITS_HELD_OUT = 300  # images in each of the validation and test splits


def open_shapes(split: str, config: shapes.ShapesConfig, root: Path | None = None) -> ImageDataset:
    """Open the shapes; on first use they are rendered below `root` (default: `home()`)."""
    folder = shapes.generate((root or home()) / f"shapes-v{shapes.VERSION}", config)
    files = open_folder(folder, split)
    return InMemoryImages(
        root=files.root,
        name="shapes",
        split=split,
        names=files.names,
        labels=files.labels,
        classes=files.classes,
        crop_ratio=1.0,
    )


def open_digits(split: str) -> ImageDataset:
    """Open handwritten digits (UCI, 8 x 8) as 32 x 32 RGB: 1197 train, 300 validation, 300 test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    labels = raw.target.astype(np.int64)
    remaining, test = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_HELD_OUT, stratify=labels, random_state=0
    )
    train, validation = train_test_split(
        remaining, test_size=DIGITS_HELD_OUT, stratify=labels[remaining], random_state=0
    )
    indices = np.sort({"train": train, "validation": validation, "test": test}[split])
    return ArrayImages(
        pixels=np.stack([_upscaled(raw.images[i]) for i in indices]),
        name="digits",
        split=split,
        names=[f"digits/{i:04d}" for i in indices],
        labels=labels[indices],
        classes=tuple(str(name) for name in raw.target_names),
        crop_ratio=1.0,
    )


def _upscaled(grey: np.ndarray) -> np.ndarray:
    """Convert 8 x 8 values in 0..16 to uint8 (32, 32, 3)."""
    image = Image.fromarray(np.round(grey * (255 / 16)).astype(np.uint8))
    image = image.resize((DIGITS_SIDE, DIGITS_SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image.convert("RGB"))
