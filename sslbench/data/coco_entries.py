"""Reads COCO's annotation files: checks every entry and fills in missing fields where possible."""

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

MAX_CHARACTERS = 4096  # of a name
MAX_ID = 2**53  # pycocotools keeps ids in float64
Entry = dict[str, Any]
Fault = Callable[[str], UserError]
log = logging.getLogger(__name__)


@dataclass
class Annotations:
    """The content of an annotation file, without its masks.

    images, categories: by their ids, in the order of the file; dropped: indices of annotations
    that cover nothing; plain: whether the libraries read the file correctly.
    """

    images: dict[int, Entry]
    categories: dict[int, Entry]
    dropped: set[int] = field(default_factory=set)
    plain: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(entry["name"] for entry in self.categories.values())


def integer(value: Any) -> int | None:
    """Return a whole number as int, even if it is written as 3.0; None for other values."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def positive(value: Any) -> int | None:
    """Return a whole number above 0 as int; None for other values."""
    number = integer(value)
    return number if number and number > 0 else None


def text(value: Any) -> str | None:
    """Return a string that is not empty and not longer than a path can be, else None."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_CHARACTERS else None


def name(value: Any) -> str | None:
    """Return a `text` that can be printed and stored, else None."""
    string = text(value)
    return string if string and is_utf8(string) else None


def is_utf8(content: str) -> bool:
    """Return whether `content` has no lone surrogates, by which `read_text` keeps stray bytes."""
    try:
        return content.isascii() or bool(content.encode())
    except UnicodeEncodeError:
        return False


def flag(value: Any) -> int | None:
    """Return 0 or 1, with 0 for None; None for other values."""
    if value is None:
        return 0
    return int(value) if value in (0, 1) else None


def finite(value: Any) -> float | None:
    """Return a finite number, else None."""
    try:
        return value if type(value) in (int, float) and math.isfinite(value) else None
    except OverflowError:
        return None


def read(path: Path, fault: Fault) -> Annotations:
    """Return the entries of an annotation file; `fault` builds the error to raise."""
    return _Reader(path, fault).read()


def with_summary(entry: Entry) -> Entry:
    """Replace an annotation's mask by its summary, and a missing area by that of the mask."""
    if "image_id" in entry or "segmentation" in entry:
        mask = entry["segmentation"] = summary(entry.get("segmentation"))
        area = entry.get("area")
        if area is None or (finite(area) is not None and area <= 0):
            entry["area"] = mask.area
            entry["measured"] = mask.area != area
    return entry


class _Reader:
    """Reads one file once."""

    def __init__(self, path: Path, fault: Fault) -> None:
        self.path, self.fault, self.plain = path, fault, True
        self.location = f"in the file {printable(path)}"

    def read(self) -> Annotations:
        content = self._parsed()
        tables = {
            key: self._entries(content, key) for key in ("categories", "images", "annotations")
        }
        categories = self._by_id(tables["categories"], "categories", "category", {"name": name})
        fields = {"file_name": text, "width": positive, "height": positive}
        images = self._by_id(tables["images"], "images", "image", fields)
        result = Annotations(images, categories)
        if len(set(result.classes)) < len(result.classes):
            raise self.fault(f"Two categories {self.location} have the same name")
        result.dropped = self._check_annotations(tables["annotations"], images, categories)
        result.plain = self.plain and not result.dropped
        return result

    def _parsed(self) -> Any:
        try:
            content = read_text(self.path)
        except OSError as error:
            raise self.fault(
                f"The file {printable(self.path)} cannot be read ({error.strerror})"
            ) from error
        if not is_utf8(content):
            raise self.fault(
                f"The file {printable(self.path)} is not UTF-8, so its names cannot be read; save "
                "it as UTF-8"
            )
        # pycocotools opens the file in the locale's encoding and rejects a byte order mark
        self.plain = content.isascii() and len(content) == self.path.stat().st_size
        try:
            return parse_json(content, object_hook=with_summary)
        except ValueError as error:
            raise self.fault(f"The file {printable(self.path)} is not JSON ({error})") from None

    def _entries(self, content: Any, key: str) -> list[Entry]:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise self.fault(f"The file {printable(self.path)} has no list of {key}")
        for k, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise self.fault(f"{key}[{k}] {self.location} is not an object")
        return entries

    def _convert(self, subject: str, entry: Entry, name: str, convert: Callable[[Any], Any]) -> Any:
        """Return the converted value of a field and store it in the entry; raise if invalid."""
        raw = entry.get(name)
        value = convert(raw)
        if value is None:
            but = f", but {shown(raw)}" if name in entry else ""
            raise self.fault(f"{subject} {self.location} has no valid {name!r}{but}")
        if type(value) is not type(raw):
            self.plain = False
        entry[name] = value
        return value

    def _by_id(
        self, entries: list[Entry], key: str, kind: str, fields: Mapping[str, Callable]
    ) -> dict[int, Entry]:
        table: dict[int, Entry] = {}
        for k, entry in enumerate(entries):
            subject = f"{key}[{k}]"
            entry_id = self._convert(subject, entry, "id", integer)
            self.plain &= 0 <= entry_id < MAX_ID
            for name, convert in fields.items():
                self._convert(subject, entry, name, convert)
            if table.setdefault(entry_id, entry) is not entry:
                raise self.fault(f"Two entries {self.location} have the {kind} id {entry_id}")
        return table

    def _check_annotations(
        self, entries: list[Entry], images: Mapping[int, Entry], categories: Mapping[int, Entry]
    ) -> set[int]:
        """Return the indices of the annotations that cover nothing, and log them.

        Training also skips boxes thinner than a pixel (mmdet's rule, as in the papers); together
        they may be a fifth. Annotation ids may be anything, because nothing refers to them.
        """
        empty: dict[int, str] = {}
        thin: dict[int, str] = {}
        ids: set[Any] = set()
        for k, entry in enumerate(entries):
            entry_id = entry.get("id")
            valid = type(entry_id) is int and 0 < entry_id < MAX_ID
            self.plain &= valid
            ids.add(entry_id if valid else None)
            named = valid or entry_id == 0
            subject = f"Annotation {entry_id}" if named else f"annotations[{k}]"
            if reason := self._why_empty(subject, entry, images, categories):
                empty[k] = f"{subject} {reason}"
            elif min(entry["bbox"][2:]) < 1:
                thin[k] = f"{subject} has the box {entry['bbox']}, thinner than a pixel"
        self.plain &= len(ids) == len(entries)
        self._check_share(empty | thin, len(entries))
        if empty:
            log.warning(
                "%s: %d of %d annotations cover nothing and are left out (first: %s).",
                printable(self.path), len(empty), len(entries), next(iter(empty.values())),
            )  # fmt: skip
        return set(empty)

    def _check_share(self, useless: Mapping[int, str], count: int) -> None:
        if len(useless) > BROKEN_LIMIT * count:
            raise self.fault(
                f"{len(useless)} of the {count} annotations {self.location} cannot be used, more "
                f"than {BROKEN_LIMIT:.0%} (first: {useless[min(useless)]})"
            )

    def _why_empty(
        self,
        subject: str,
        entry: Entry,
        images: Mapping[int, Entry],
        categories: Mapping[int, Entry],
    ) -> str:
        """Return why an annotation covers nothing, "" if it covers pixels; raise if invalid."""
        image = images.get(self._convert(subject, entry, "image_id", integer))
        if image is None:
            raise self.fault(
                f"{subject} {self.location} is of image {entry['image_id']}, which the file does "
                "not list"
            )
        if self._convert(subject, entry, "category_id", integer) not in categories:
            raise self.fault(
                f"{subject} {self.location} has the unknown category {entry['category_id']}"
            )
        self._convert(subject, entry, "iscrowd", flag)
        self._convert(subject, entry, "area", finite)
        box, mask = entry.get("bbox"), entry["segmentation"]
        width, height = image["width"], image["height"]
        if entry.get("measured") or mask.cut:
            self.plain = False
        if not isinstance(box, list) or len(box) != 4 or None in map(finite, box):
            raise self.fault(
                f"{subject} {self.location} has the box {shown(box)} instead of x, y, width and "
                "height"
            )
        x, y, w, h = box
        if problem := mask.problem or _mismatch(mask, box, width, height):
            raise self.fault(f"{subject} {self.location} has {problem}")
        if w <= 0 or h <= 0:
            return f"has the box {box}, without an extent"
        if _outside((x, y, x + w, y + h), width, height):
            return f"has the box {box}, outside its image of {width} x {height}"
        return _why_mask_empty(mask, width, height)


def _mismatch(mask: Mask, box: list[float], width: int, height: int) -> str:
    """Return what of box and mask cannot belong to an image of this size, else "".

    They may reach beyond each side by the image's width or height: objects that the frame cuts off
    are often annotated as a whole.
    """
    if mask.size and mask.size != (height, width):
        return (
            f"a mask of {mask.size[0]} x {mask.size[1]} on an image of {height} x {width} (h x w)"
        )
    x, y, w, h = box
    for kind, bounds in (("the box", (x, y, x + w, y + h)), ("a polygon", mask.bounds)):
        if bounds and not (
            -width <= bounds[0] and bounds[2] <= 2 * width
            and -height <= bounds[1] and bounds[3] <= 2 * height
        ):  # fmt: skip
            return (
                f"{kind} from x = {bounds[0]}, y = {bounds[1]} to x = {bounds[2]}, "
                f"y = {bounds[3]}, far outside its image of {width} x {height}"
            )
    return ""


def _outside(bounds: tuple[float, float, float, float], width: int, height: int) -> bool:
    left, top, right, bottom = bounds
    return left >= width or top >= height or right <= 0 or bottom <= 0


def _why_mask_empty(mask: Mask, width: int, height: int) -> str:
    if mask.bounds is None and mask.size is None:
        if mask.cut:
            return "has only polygons of fewer than three points, which cover nothing"
        return (
            "has no mask ('segmentation'), which is trained and tested besides the box (AP^m): "
            "detection needs polygons or run lengths of every object"
        )
    if not mask.area or (mask.bounds and _outside(mask.bounds, width, height)):
        return "has a mask without a pixel"
    return ""
