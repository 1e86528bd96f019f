"""What the checks of annotated image trees share: every file is decoded, once, before training."""

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
from sslbench.storage.home import kept
from sslbench.system.printing import printable

READER = f"3, Pillow {PIL.__version__}"  # what is remembered holds for one way to read
log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """One split of a tree that holds together.

    count: images that can be read; listed: with those that cannot; fingerprint: of the content;
    annotations: what training and testing read; pixels: labelled pixels of each class in all label
    maps.
    """

    count: int
    listed: int
    classes: tuple[str, ...]
    fingerprint: str
    annotations: Path
    pixels: tuple[int, ...] = ()


def evenly(items: Sequence[T], limit: int) -> list[T]:
    """All items, or `limit` of them at equal distances where there are more."""
    count = min(len(items), limit)
    return [items[k * len(items) // count] for k in range(count)]


class Look(NamedTuple):
    """What an image file holds: width and height upright; reason: why it cannot be decoded;
    orientation: by which EXIF number it was turned, 1 for not at all."""

    size: tuple[int, int] = (0, 0)
    reason: str = ""
    orientation: int = 1

    @property
    def hidden(self) -> bool:
        """Whether it was turned and its size does not show it: mirrored, upside down or square."""
        return self.orientation in (2, 3, 4) or (
            self.orientation != 1 and self.size[0] == self.size[1]
        )


def look_at(folder: Path, names: Sequence[str]) -> list[Look]:
    """Decodes the images `folder`/name in order; files seen before are remembered."""
    return [_look_of(text) for text in remembered(folder, names, f"image {READER}", _look)]


def _look(path: str) -> str:
    try:
        with opened(path) as image:
            width, height = upright_rgb(image, printable(path)).size
            return f"{width} {height} {_orientation(image)}"
    except BrokenImage as error:
        return f"{FAILED}{error.reason}"


def _look_of(text: str) -> Look:
    if text.startswith(FAILED):
        return Look(reason=text.removeprefix(FAILED))
    width, height, orientation = map(int, text.split())
    return Look((width, height), orientation=orientation)


def _orientation(image: Image.Image) -> int:
    """The EXIF number by which a loaded image is turned, 1 for not at all."""
    turn = turn_of(image)
    return next((number for number, way in TURNS.items() if way == turn), 1)


def leave_out(where: Path, broken: Mapping[str, str], listed: int) -> None:
    """Names the broken files of a split in the log; UserError where a fifth cannot be read.

    where: their folder; broken: name -> reason; listed: how many the split has with them.
    """
    if not broken:
        return
    first = "; ".join(f"{printable(n)}: {why}" for n, why in list(broken.items())[:3])
    if len(broken) > BROKEN_LIMIT * listed:
        raise UserError(
            f"{len(broken)} of the {listed} images of {printable(where)} cannot be decoded, more "
            f"than {BROKEN_LIMIT:.0%}: repair or remove them (first: {first})."
        )
    log.warning(
        "%s: %d of %d images cannot be decoded and are left out of training and evaluation "
        "(first: %s).",
        printable(where), len(broken), listed, first,
    )  # fmt: skip


def warn_hidden(where: Path, names: Sequence[str], looks: Sequence[Look]) -> None:
    """Names the images of which nobody can see whether they were annotated as stored or upright."""
    hidden = [name for name, look in zip(names, looks, strict=True) if look.hidden]
    if hidden:
        log.warning(
            "%s: %d of %d images have an EXIF orientation that their size does not show (first: "
            "%s): their annotations are taken to be of the upright image.",
            printable(where), len(hidden), len(names), printable(hidden[0]),
        )  # fmt: skip


def contents_of(folder: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """(name, hash of the content), sorted by name."""
    return sorted(zip(names, content_hashes(folder, names), strict=True))


def turned(path: Path) -> str:
    """The part of a sentence on an image's size that says how it is turned; empty if it is not."""
    with opened(path) as image:
        image.load()  # a PNG's may follow the pixels
        number, (width, height) = _orientation(image), image.size
    if number == 1:
        return ""
    return (
        f" after its EXIF orientation {number} (stored: {width} x {height}), by which training and "
        "testing turn it"
    )


def write_json(path: Path, value: Any) -> None:
    """Writes a file of the cache, all at once, unless it holds just that."""
    text = json.dumps(value)
    with kept(path):
        if not path.is_file() or path.read_bytes() != text.encode():
            with replacing(path) as temporary:
                temporary.write_text(text)
