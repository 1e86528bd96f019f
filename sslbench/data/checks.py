"""Shared checks of annotated image trees: every file is decoded once, before training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import PIL
from PIL import Image

from sslbench.data.contents import content_hashes
from sslbench.data.dataset import BROKEN_LIMIT
from sslbench.data.reading import TURNS, BrokenImage, opened, turn_of, upright_rgb
from sslbench.data.remembered import FAILED, remembered
from sslbench.errors import UserError
from sslbench.storage.files import replacing
from sslbench.storage.home import writing
from sslbench.system.printing import printable

READER = f"3, Pillow {PIL.__version__}"  # cached results are valid for one way of reading
log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """One split of a tree that passed all checks.

    count: readable images; listed: all images; fingerprint: of the content; annotations: the file
    that training and testing read; pixels: labelled pixels of each class in all label maps.
    """

    count: int
    listed: int
    classes: tuple[str, ...]
    fingerprint: str
    annotations: Path
    pixels: tuple[int, ...] = ()


def evenly(items: Sequence[T], limit: int) -> list[T]:
    """Return all items, or `limit` of them at equal distances if there are more."""
    count = min(len(items), limit)
    return [items[k * len(items) // count] for k in range(count)]


class ImageInfo(NamedTuple):
    """The result of decoding an image file.

    size: width and height of the upright image; reason: why it cannot be decoded, else "";
    orientation: its EXIF orientation, 1 for an image stored upright.
    """

    size: tuple[int, int] = (0, 0)
    reason: str = ""
    orientation: int = 1

    @property
    def hidden(self) -> bool:
        """Whether an orientation was applied that the size does not reveal, e.g. mirroring."""
        return self.orientation in (2, 3, 4) or (
            self.orientation != 1 and self.size[0] == self.size[1]
        )


def inspect_images(folder: Path, names: Sequence[str]) -> list[ImageInfo]:
    """Decode the images `folder`/name in order; results are cached until a file changes."""
    return [_parsed(text) for text in remembered(folder, names, f"image {READER}", _inspect)]


def _inspect(path: str) -> str:
    try:
        with opened(path) as image:
            width, height = upright_rgb(image, printable(path)).size
            return f"{width} {height} {_orientation(image)}"
    except BrokenImage as error:
        return f"{FAILED}{error.reason}"


def _parsed(text: str) -> ImageInfo:
    if text.startswith(FAILED):
        return ImageInfo(reason=text.removeprefix(FAILED))
    width, height, orientation = map(int, text.split())
    return ImageInfo((width, height), orientation=orientation)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image, 1 for an image stored upright."""
    turn = turn_of(image)
    return next((number for number, transpose in TURNS.items() if transpose == turn), 1)


def report_broken(folder: Path, broken: Mapping[str, str], listed: int) -> None:
    """Log the broken files of a split; UserError if they are more than a fifth.

    broken: name -> reason; listed: number of all images of the split.
    """
    if not broken:
        return
    first = "; ".join(f"{printable(n)}: {reason}" for n, reason in list(broken.items())[:3])
    if len(broken) > BROKEN_LIMIT * listed:
        raise UserError(
            f"{len(broken)} of the {listed} images of {printable(folder)} cannot be decoded, more "
            f"than {BROKEN_LIMIT:.0%}: repair or remove them (first: {first})."
        )
    log.warning(
        "%s: %d of %d images cannot be decoded and are left out of training and evaluation "
        "(first: %s).",
        printable(folder), len(broken), listed, first,
    )  # fmt: skip


def warn_hidden(folder: Path, names: Sequence[str], infos: Sequence[ImageInfo]) -> None:
    """Warn of images whose size does not tell if they were annotated as stored or upright."""
    hidden = [name for name, info in zip(names, infos, strict=True) if info.hidden]
    if hidden:
        log.warning(
            "%s: %d of %d images have an EXIF orientation that their size does not show (first: "
            "%s): their annotations are assumed to refer to the upright image.",
            printable(folder), len(hidden), len(names), printable(hidden[0]),
        )  # fmt: skip


def contents_of(folder: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, hash of the content) pairs, sorted by name."""
    return sorted(zip(names, content_hashes(folder, names), strict=True))


def rotation_note(path: Path) -> str:
    """Return the part of an error message that names an image's EXIF orientation, "" if upright."""
    with opened(path) as image:
        image.load()  # the orientation of a PNG may follow the pixels
        orientation, (width, height) = _orientation(image), image.size
    if orientation == 1:
        return ""
    return (
        f" after its EXIF orientation {orientation} (stored: {width} x {height}), which training "
        "and testing apply"
    )


def write_json(path: Path, value: Any) -> None:
    """Write a file of the cache atomically, unless it already has this content."""
    text = json.dumps(value)
    with writing(path):
        if not path.is_file() or path.read_bytes() != text.encode():
            with replacing(path) as temporary:
                temporary.write_text(text)
