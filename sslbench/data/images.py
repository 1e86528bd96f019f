"""Opens every image dataset: `open_dataset`."""

from __future__ import annotations

import os
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
from sslbench.data.shapes import ShapesConfig
from sslbench.data.splits import split_named
from sslbench.data.torchvision_sets import PREFIX, open_torchvision
from sslbench.errors import UserError, nearest
from sslbench.storage.home import expanded, home
from sslbench.system.printing import printable

__all__ = [
    "ArrayImages",
    "BrokenImage",
    "BrokenLog",
    "FileImages",
    "ImageDataset",
    "InMemoryImages",
    "decode",
    "home",
    "is_absent",
    "is_named",
    "open_dataset",
]

EMBEDDED = ("digits", "shapes")
ABSENT = ("imagenet-1k", "imagenet-22k")  # named by recipes; their licence forbids shipping them


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
    if is_absent(text):
        raise UserError(f"{text} does not come with sslbench: give the folder with --data DIR.")
    if text == "shapes":
        return open_shapes(split, ShapesConfig(), root)
    if text == "digits":
        return open_digits(split)
    if text.startswith(PREFIX):
        return open_torchvision(text.removeprefix(PREFIX), split, root or home() / "torchvision")
    return _open_path(text, expanded(source), split)


def is_named(source: str) -> bool:
    """Return whether `source` is the name of a dataset and not a path."""
    return source in (*EMBEDDED, *ABSENT) or source.startswith(PREFIX)


def is_absent(source: str) -> bool:
    """Return whether `source` names data that the user has to provide."""
    return source in ABSENT and not Path(source).exists()


def _open_path(text: str, path: Path, split: str) -> ImageDataset:
    if path.is_dir():
        return open_folder(path, split)
    if path.is_file() and path.suffix == ".txt":
        return open_list(path, split)
    shown = printable(path)
    if path.is_file():
        raise UserError(f"The file {shown} is not a dataset: give a folder or a .txt list.")
    if os.path.lexists(path):
        raise UserError(
            f"The path {shown} is neither a folder nor a regular file: give a folder or a .txt "
            "list."
        )
    if len(path.parts) > 1 or path.suffix:
        raise UserError(f"The path {shown} does not exist: give a folder, a .txt list or a name.")
    raise UserError(
        f"Unknown dataset {text!r}, which is neither a path nor embedded: "
        f"{nearest(text, [*EMBEDDED, PREFIX + 'NAME'])}."
    )
