"""What COCO writes for the mask of an object: polygons, or run lengths as numbers or as a string.

pycocotools decodes whatever it is given: numbers that are not finite fill its memory, and runs that
do not add up to the image end in memory that was never written. So every mask is read here first.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

Size = tuple[int, int]  # height, width
POINTS = 6  # numbers of the smallest polygon; a point or a line covers nothing
LARGEST_GROUPS = 7  # of five bits, in a run of a compressed code: enough for 2**34 pixels


class Mask(NamedTuple):
    """What is kept of a mask once it is read: polygons are most of the 450 MB of COCO.

    wrong: why nobody can read it, "" where it can be read; size: height and width by run lengths;
    bounds: left, top, right, bottom of polygons; area: in pixels, 0 where nothing is covered; cut:
    whether polygons of less than three points were left out.
    """

    wrong: str = ""
    size: Size | None = None
    bounds: tuple[float, float, float, float] | None = None
    area: float = 0.0
    cut: bool = False


def summary(mask: Any) -> Mask:
    """What `mask`, as the JSON file gives it, covers; None and empty lists cover nothing."""
    if mask is None or mask == []:
        return Mask()
    if isinstance(mask, list):
        return _polygons(mask)
    if isinstance(mask, dict):
        return _runs(mask.get("size"), mask.get("counts"))
    return Mask(f"the mask {shown(mask)}, neither a list of polygons nor run lengths")


def usable(polygons: list[list[float]]) -> list[list[float]]:
    """The polygons without those of less than three points."""
    return [polygon for polygon in polygons if len(polygon) >= POINTS]


def shown(value: Any) -> str:
    """`value` for a sentence, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _polygons(polygons: list[Any]) -> Mask:
    for k, polygon in enumerate(polygons):
        if wrong := _wrong(polygon):
            return Mask(f"polygon {k} {shown(polygon)}, {wrong}")
    kept = usable(polygons)
    if not kept:
        return Mask(cut=bool(polygons))
    xs, ys = [p[0::2] for p in kept], [p[1::2] for p in kept]
    bounds = (
        min(map(min, xs)), min(map(min, ys)), max(map(max, xs)), max(map(max, ys))
    )  # fmt: skip
    area = sum(map(polygon_area, xs, ys))
    return Mask(bounds=bounds, area=area, cut=len(kept) < len(polygons))


def _wrong(polygon: Any) -> str:
    """Why a polygon cannot be read; "" where it can. Built of what runs at C's speed."""
    if not isinstance(polygon, list) or not set(map(type, polygon)) <= {int, float}:
        return "which is not a flat list of numbers"
    if len(polygon) % 2:
        return f"which has {len(polygon)} numbers, an x without its y"
    try:
        finite = math.isfinite(sum(polygon))
    except OverflowError:
        finite = False
    return "" if finite else "whose numbers are not finite or too large"


def polygon_area(x: list[float], y: list[float]) -> float:
    """The area in a polygon (shoelace formula)."""
    ends = zip(pairwise([*x, x[0]]), pairwise([*y, y[0]]), strict=True)
    return abs(sum(a * d - b * c for (a, b), (c, d) in ends)) / 2


def _runs(size: Any, counts: Any) -> Mask:
    if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)):
        return Mask(f"run lengths of the size {shown(size)} instead of height and width")
    height, width = size
    if height < 1 or width < 1:
        return Mask(f"run lengths of {height} x {width} pixels")
    if isinstance(counts, str):
        runs = _decompressed(counts)
    elif isinstance(counts, list) and all(type(n) is int for n in counts):
        runs = counts
    else:
        runs = None
    if runs is None:
        return Mask(f"the run lengths {shown(counts)}, neither whole numbers nor COCO's code")
    if runs and min(runs) < 0:
        return Mask(f"a run of {min(runs)} pixels in its run lengths")
    if sum(runs) != height * width:
        return Mask(
            f"run lengths of {sum(runs)} pixels in all, not of the {height * width} of "
            f"{height} x {width}"
        )
    return Mask(size=(height, width), area=float(sum(runs[1::2])))


def _decompressed(code: str) -> list[int] | None:
    """The runs in COCO's compressed string, None where it is none.

    Six bits a character from "0" on, the low five first, the sixth says that more follow; from the
    fourth run on, the difference to the run before the last (`rleFrString`, cocoapi's maskApi.c).
    """
    runs: list[int] = []
    value = groups = 0
    for character in code:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or groups == LARGEST_GROUPS:
            return None
        value |= (bits & 31) << 5 * groups
        groups += 1
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << 5 * groups
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = groups = 0
    return None if groups else runs
