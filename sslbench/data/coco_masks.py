"""COCO's masks of objects: polygons, or run lengths as numbers or as a compressed string.

pycocotools decodes masks without checks: numbers that are not finite exhaust memory, and run
lengths that do not add up to the image read uninitialised memory. So every mask is checked here
first.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

Size = tuple[int, int]  # height, width
MIN_NUMBERS = 6  # of a polygon: three points
MAX_GROUPS = 7  # of five bits, for one run of a compressed string: enough for 2**34 pixels


class Mask(NamedTuple):
    """A summary that replaces a mask to save memory: polygons are most of COCO's 450 MB.

    problem: why the mask is invalid, "" if it is valid; size: height and width of run lengths;
    bounds: left, top, right, bottom of polygons; area: in pixels; cut: whether polygons of fewer
    than three points were left out.
    """

    problem: str = ""
    size: Size | None = None
    bounds: tuple[float, float, float, float] | None = None
    area: float = 0.0
    cut: bool = False


def summary(mask: Any) -> Mask:
    """Return the summary of a mask from the JSON file; None and empty lists cover nothing."""
    if mask is None or mask == []:
        return Mask()
    if isinstance(mask, list):
        return _polygons(mask)
    if isinstance(mask, dict):
        return _runs(mask.get("size"), mask.get("counts"))
    return Mask(f"the mask {shown(mask)}, neither a list of polygons nor run lengths")


def usable_polygons(polygons: list[list[float]]) -> list[list[float]]:
    """Return the polygons of at least three points."""
    return [polygon for polygon in polygons if len(polygon) >= MIN_NUMBERS]


def shown(value: Any) -> str:
    """Return `value` for an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _polygons(polygons: list[Any]) -> Mask:
    for k, polygon in enumerate(polygons):
        if problem := _polygon_problem(polygon):
            return Mask(f"polygon {k} {shown(polygon)}, {problem}")
    kept = usable_polygons(polygons)
    if not kept:
        return Mask(cut=bool(polygons))
    xs, ys = [p[0::2] for p in kept], [p[1::2] for p in kept]
    bounds = (
        min(map(min, xs)), min(map(min, ys)), max(map(max, xs)), max(map(max, ys))
    )  # fmt: skip
    area = sum(map(polygon_area, xs, ys))
    return Mask(bounds=bounds, area=area, cut=len(kept) < len(polygons))


def _polygon_problem(polygon: Any) -> str:
    """Return why a polygon is invalid, else ""; uses only builtins that run at C speed."""
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
    """Return the area of a polygon (shoelace formula)."""
    edges = zip(pairwise([*x, x[0]]), pairwise([*y, y[0]]), strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, x1), (y0, y1) in edges)) / 2


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
    """Return the runs in COCO's compressed string, None if it is invalid.

    Each character holds six bits, counted from "0": five of the value, lowest first, and one that
    says whether more follow. From the fourth run on, the value is the difference to the run two
    before (`rleFrString`, cocoapi's maskApi.c).
    """
    runs: list[int] = []
    value = groups = 0
    for character in code:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or groups == MAX_GROUPS:
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
