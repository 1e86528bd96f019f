"""Reads COCO's annotation files: every entry is checked, and what is clearly meant is filled in."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sslbench.data.coco_masks import Mask, shown, summary
from sslbench.data.dataset import BROKEN_LIMIT
from sslbench.data.reading import read_text
from sslbench.errors import UserError
from sslbench.storage.files import parse_json
from sslbench.system.printing import printable

LONGEST = 4096  # characters of a name
LARGEST_ID = 2**53  # pycocotools keeps ids in float64
Entry = dict[str, Any]
Fault = Callable[[str], UserError]
log = logging.getLogger(__name__)


@dataclass
class Annotated:
    """What an annotation file says, masks apart.

    images, categories: by their ids, in the order of the file; dropped: positions of annotations
    that cover nothing; plain: whether the libraries read the file as it is meant.
    """

    images: dict[int, Entry]
    categories: dict[int, Entry]
    dropped: set[int] = field(default_factory=set)
    plain: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(entry["name"] for entry in self.categories.values())


def whole(value: Any) -> int | None:
    """`value` as an integer where it is one, be it written as 3.0; None for the rest."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def positive(value: Any) -> int | None:
    """`value` where it is a whole number above 0."""
    found = whole(value)
    return found if found and found > 0 else None


def text(value: Any) -> str | None:
    """`value` where it is a text, not empty and no longer than the path of a file."""
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST else None


def name(value: Any) -> str | None:
    """`value` where it is a text that can be printed and stored."""
    found = text(value)
    return found if found and utf8(found) else None


def utf8(content: str) -> bool:
    """Whether it has no stray bytes, which `read_text` keeps as lone surrogates."""
    try:
        return content.isascii() or bool(content.encode())
    except UnicodeEncodeError:
        return False


def flag(value: Any) -> int | None:
    """0 or 1; what is not given is 0."""
    if value is None:
        return 0
    return int(value) if value in (0, 1) else None


def number(value: Any) -> float | None:
    """`value` where it is a finite number."""
    try:
        return value if type(value) in (int, float) and math.isfinite(value) else None
    except OverflowError:
        return None


def read(path: Path, fault: Fault) -> Annotated:
    """The entries of an annotation file; `fault` makes the error of what is wrong with it."""
    return _Reader(path, fault).read()


def slim(entry: Entry) -> Entry:
    """Replaces an annotation's mask by its summary, and by the mask's an area that is none."""
    if "image_id" in entry or "segmentation" in entry:
        mask = entry["segmentation"] = summary(entry.get("segmentation"))
        area = entry.get("area")
        if area is None or (number(area) is not None and area <= 0):
            entry["area"] = mask.area
            entry["measured"] = mask.area != area
    return entry


class _Reader:
    """One pass over one file."""

    def __init__(self, path: Path, fault: Fault) -> None:
        self.path, self.fault, self.plain = path, fault, True
        self.where = f"in the file {printable(path)}"

    def read(self) -> Annotated:
        content = self._parsed()
        tables = {
            key: self._entries(content, key) for key in ("categories", "images", "annotations")
        }
        categories = self._by_id(tables["categories"], "categories", "category", {"name": name})
        sides = {"file_name": text, "width": positive, "height": positive}
        images = self._by_id(tables["images"], "images", "image", sides)
        found = Annotated(images, categories)
        if len(set(found.classes)) < len(found.classes):
            raise self.fault(f"Two categories {self.where} have the same name")
        found.dropped = self._annotations(tables["annotations"], images, categories)
        found.plain = self.plain and not found.dropped
        return found

    def _parsed(self) -> Any:
        try:
            content = read_text(self.path)
        except OSError as error:
            raise self.fault(
                f"The file {printable(self.path)} cannot be read ({error.strerror})"
            ) from error
        if not utf8(content):
            raise self.fault(
                f"The file {printable(self.path)} is not UTF-8, so its names cannot be read; save "
                "it as UTF-8"
            )
        # pycocotools opens the file in the locale's encoding and knows no byte order mark
        self.plain = content.isascii() and len(content) == self.path.stat().st_size
        try:
            return parse_json(content, object_hook=slim)
        except ValueError as error:
            raise self.fault(f"The file {printable(self.path)} is not JSON ({error})") from None

    def _entries(self, content: Any, key: str) -> list[Entry]:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise self.fault(f"The file {printable(self.path)} has no list of {key}")
        for k, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise self.fault(f"{key}[{k}] {self.where} is not an object")
        return entries

    def _take(self, what: str, entry: Entry, name: str, convert: Callable[[Any], Any]) -> Any:
        """The value under `name`, replaced in the entry by what it means."""
        given = entry.get(name)
        value = convert(given)
        if value is None:
            but = f", but {shown(given)}" if name in entry else ""
            raise self.fault(f"{what} {self.where} has no valid {name!r}{but}")
        if type(value) is not type(given):
            self.plain = False
        entry[name] = value
        return value

    def _by_id(
        self, entries: list[Entry], key: str, what: str, fields: Mapping[str, Callable]
    ) -> dict[int, Entry]:
        table: dict[int, Entry] = {}
        for k, entry in enumerate(entries):
            place = f"{key}[{k}]"
            found = self._take(place, entry, "id", whole)
            self.plain &= 0 <= found < LARGEST_ID
            for name, convert in fields.items():
                self._take(place, entry, name, convert)
            if table.setdefault(found, entry) is not entry:
                raise self.fault(f"Two entries {self.where} have the {what} id {found}")
        return table

    def _annotations(
        self, entries: list[Entry], images: Mapping[int, Entry], categories: Mapping[int, Entry]
    ) -> set[int]:
        """Positions of the annotations that cover nothing, which are named in the log.

        Training, too, skips boxes thinner than a pixel (mmdet's rule, as in the papers); with them,
        a fifth may be useless. Ids of annotations, to which nothing refers, may be anything.
        """
        empty: dict[int, str] = {}
        thin: dict[int, str] = {}
        ids: set[Any] = set()
        for k, entry in enumerate(entries):
            given = entry.get("id")
            usual = type(given) is int and 0 < given < LARGEST_ID
            self.plain &= usual
            ids.add(given if usual else None)
            what = f"Annotation {given}" if usual or given == 0 else f"annotations[{k}]"
            if reason := self._annotation(what, entry, images, categories):
                empty[k] = f"{what} {reason}"
            elif min(entry["bbox"][2:]) < 1:
                thin[k] = f"{what} has the box {entry['bbox']}, thinner than a pixel"
        self.plain &= len(ids) == len(entries)
        self._limit(empty | thin, len(entries))
        if empty:
            log.warning(
                "%s: %d of %d annotations cover nothing and are left out (first: %s).",
                printable(self.path), len(empty), len(entries), next(iter(empty.values())),
            )  # fmt: skip
        return set(empty)

    def _limit(self, useless: Mapping[int, str], count: int) -> None:
        if len(useless) > BROKEN_LIMIT * count:
            raise self.fault(
                f"{len(useless)} of the {count} annotations {self.where} cannot be used, more than "
                f"{BROKEN_LIMIT:.0%} (first: {useless[min(useless)]})"
            )

    def _annotation(
        self,
        what: str,
        entry: Entry,
        images: Mapping[int, Entry],
        categories: Mapping[int, Entry],
    ) -> str:
        """Why an annotation covers nothing, "" if it does; UserError for what is none."""
        image = images.get(self._take(what, entry, "image_id", whole))
        if image is None:
            raise self.fault(
                f"{what} {self.where} is of image {entry['image_id']}, which the file does not list"
            )
        if self._take(what, entry, "category_id", whole) not in categories:
            raise self.fault(f"{what} {self.where} has the unknown category {entry['category_id']}")
        self._take(what, entry, "iscrowd", flag)
        self._take(what, entry, "area", number)
        box, mask = entry.get("bbox"), entry["segmentation"]
        width, height = image["width"], image["height"]
        if entry.get("measured") or mask.cut:
            self.plain = False
        if not isinstance(box, list) or len(box) != 4 or None in map(number, box):
            raise self.fault(
                f"{what} {self.where} has the box {shown(box)} instead of x, y, width and height"
            )
        x, y, w, h = box
        if wrong := mask.wrong or _mismatch(mask, box, width, height):
            raise self.fault(f"{what} {self.where} has {wrong}")
        if w <= 0 or h <= 0:
            return f"has the box {box}, without an extent"
        if _outside((x, y, x + w, y + h), width, height):
            return f"has the box {box}, outside its image of {width} x {height}"
        return _emptiness(mask, width, height)


def _mismatch(mask: Mask, box: list[float], width: int, height: int) -> str:
    """What of box and mask cannot belong to an image of this size.

    They may leave it by as much as it measures: what is cut off by the frame is often annotated.
    """
    if mask.size and mask.size != (height, width):
        return (
            f"a mask of {mask.size[0]} x {mask.size[1]} on an image of {height} x {width} (h x w)"
        )
    x, y, w, h = box
    for what, found in (("the box", (x, y, x + w, y + h)), ("a polygon", mask.bounds)):
        if found and not (
            -width <= found[0] and found[2] <= 2 * width
            and -height <= found[1] and found[3] <= 2 * height
        ):  # fmt: skip
            return (
                f"{what} from x = {found[0]}, y = {found[1]} to x = {found[2]}, y = {found[3]}, "
                f"far outside its image of {width} x {height}"
            )
    return ""


def _outside(bounds: tuple[float, float, float, float], width: int, height: int) -> bool:
    left, top, right, bottom = bounds
    return left >= width or top >= height or right <= 0 or bottom <= 0


def _emptiness(mask: Mask, width: int, height: int) -> str:
    if mask.bounds is None and mask.size is None:
        if mask.cut:
            return "has only polygons of less than three points, which cover nothing"
        return (
            "has no mask ('segmentation'), which is trained and tested beside the box (AP^m): "
            "detection needs polygons or run lengths of every object"
        )
    if not mask.area or (mask.bounds and _outside(mask.bounds, width, height)):
        return "has a mask without a pixel"
    return ""
