"""Opens every image dataset: `open_dataset`."""

from __future__ import annotations

from pathlib import Path

from sslbench.data.dataset import (
    ArrayImages,
    BrokenImage,
    BrokenLog,
    FileImages,
    ImageDataset,
    InMemoryImages,
    decode,
)
from sslbench.data.embedded import open_digits, open_shapes
from sslbench.data.folders import open_folder
from sslbench.data.lists import open_list
from sslbench.data.places import check_place
from sslbench.data.shapes import ShapesConfig
from sslbench.data.splits import split_named
from sslbench.data.torchvision_sets import PREFIX, open_torchvision
from sslbench.storage.home import expanded, home

__all__ = [
    "ArrayImages",
    "BrokenImage",
    "BrokenLog",
    "FileImages",
    "ImageDataset",
    "InMemoryImages",
    "decode",
    "home",
    "open_dataset",
]


def open_dataset(
    source: str | Path, split: str = "train", root: Path | None = None
) -> ImageDataset:
    """Open the images of `source`.

    source: "shapes", "digits", "torchvision:NAME", a folder (`open_folder`) or a list file ending
    in .txt (`open_list`). split: "train", "validation" (or "val") or "test". root: where shapes and
    torchvision's sets are stored, default `home()`.

    Raises UserError if the source does not exist or holds no images.
    """
    split = split_named(split)
    text = str(source)
    check_place(text)
    if text == "shapes":
        return open_shapes(split, ShapesConfig(), root)
    if text == "digits":
        return open_digits(split)
    if text.startswith(PREFIX):
        return open_torchvision(text.removeprefix(PREFIX), split, root or home() / "torchvision")
    path = expanded(source)
    return open_folder(path, split) if path.is_dir() else open_list(path, split)
