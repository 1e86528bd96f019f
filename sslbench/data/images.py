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
from sslbench.data.inaturalist import open_inaturalist, years_of
from sslbench.data.lists import open_list
from sslbench.data.places import TORCHVISION, check_place, place_and_option
from sslbench.data.shapes import ShapesConfig
from sslbench.data.splits import split_named
from sslbench.errors import UserError
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
    "open_dataset",
]


def open_dataset(
    source: str | Path, split: str = "train", root: Path | None = None
) -> ImageDataset:
    """Open the images of `source`.

    source: "shapes", "digits", "torchvision:NAME" (`open_torchvision`), a folder (`open_folder`), a
    folder of iNaturalist (`open_inaturalist`; "DIR?labels=official" numbers the classes as iBOT
    does) or a list file ending in .txt (`open_list`). split: "train", "validation" (or "val") or
    "test". root: where shapes and torchvision's sets are stored, default `home()`.

    Raises UserError if the source does not exist or holds no images.
    """
    split = split_named(split)
    text = str(source)
    check_place(text)
    if text == "shapes":
        return open_shapes(split, ShapesConfig(), root)
    if text == "digits":
        return open_digits(split)
    if text.startswith(TORCHVISION):
        from sslbench.data.torchvision_sets import open_torchvision  # loads torch

        return open_torchvision(
            text.removeprefix(TORCHVISION), split, root or home() / "torchvision"
        )
    place, option = place_and_option(text)
    path = expanded(place)
    if path.is_dir() and years_of(path):
        return open_inaturalist(path, split, official=bool(option))
    if option:
        raise UserError(
            f"The option {option} is for iNaturalist's folders, but {printable(path)} has no "
            "train2018.json and val2018.json, nor those of 2019: leave it out."
        )
    return open_folder(path, split) if path.is_dir() else open_list(path, split)
