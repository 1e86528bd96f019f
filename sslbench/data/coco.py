"""Finds and checks COCO trees: box and mask annotations in one JSON file per split."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslbench.data.checks import Checked, evenly, image_size
from sslbench.data.dataset import digest
from sslbench.errors import UserError

TREE = "annotations/instances_{train,val}2017.json with the images in {train,val}2017/"
SPLITS = {"train": ("train",), "validation": ("val", "test"), "test": ("test", "val")}
SKIPPED = 0.001  # largest share of annotations that training may skip

# What the libraries that train and judge on the file read of every entry.
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {
        "id": int,
        "image_id": int,
        "category_id": int,
        "bbox": list,
        "area": (int, float),
        "iscrowd": int,
        "segmentation": str,  # as `_slim` leaves it
    },
}

Entry = dict[str, Any]


def fault(text: str) -> UserError:
    """The error that says what is wrong and what a COCO tree looks like."""
    return UserError(f"{text}: a COCO tree has {TREE}.")


def locate(root: Path, split: str) -> tuple[Path, Path]:
    """Image folder and annotation file of a split, val standing in for test and vice versa."""
    for name in SPLITS[split]:
        images, annotations = root / f"{name}2017", root / f"annotations/instances_{name}2017.json"
        if annotations.is_file():
            if not images.is_dir():
                raise fault(f"The folder {images} does not exist")
            return images, annotations
    names = " or ".join(f"instances_{name}2017.json" for name in SPLITS[split])
    raise fault(f"The folder {root / 'annotations'} has no file {names}")


def check(images: Path, annotations: Path) -> Checked:
    """Reads a split; raises UserError for what training or judging would stumble over.

    Every entry of the file and the existence of every image are checked; the size of an image is
    compared with its header for 500 images at equal distances (all, if there are no more).
    Classes are the categories in the order of the file. The fingerprint covers the annotation
    file's content and the images' names and sizes in bytes.
    """
    content = _parsed(annotations)
    tables = {key: _table(annotations, content, key) for key in FIELDS}
    known = _by_id(annotations, tables["images"], "image")
    categories = _by_id(annotations, tables["categories"], "category")
    classes = tuple(entry["name"] for entry in categories.values())
    if len(set(classes)) < len(classes):
        raise fault(f"The file {annotations} has two categories of the same name")
    _by_id(annotations, tables["annotations"], "annotation")
    _check_annotations(annotations, tables["annotations"], known, categories)
    sizes = _check_images(annotations, images, known)
    with annotations.open("rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    return Checked(len(known), classes, digest(sha, sizes))


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_hook=_slim)
    except (ValueError, RecursionError) as error:
        raise fault(f"The file {path} is not JSON ({error})") from None


def _slim(entry: Entry) -> Entry:
    """Replaces a mask by what is checked of it: polygons are most of the 450 MB of COCO.

    The mask becomes "polygons", "degenerate" (none of them has three points), the size "HxW" of
    a run-length code, or "" where it is none of these.
    """
    if "segmentation" in entry:
        mask, entry["segmentation"] = entry["segmentation"], ""
        if isinstance(mask, list) and mask and all(isinstance(p, list) for p in mask):
            usable = any(len(p) >= 6 and len(p) % 2 == 0 for p in mask)
            entry["segmentation"] = "polygons" if usable else "degenerate"
        elif isinstance(mask, dict) and isinstance(mask.get("counts"), list | str):
            size = mask.get("size")
            entry["segmentation"] = "x".join(map(str, size)) if isinstance(size, list) else ""
    return entry


def _table(path: Path, content: Any, key: str) -> list[Entry]:
    """The entries under `key`, each with the fields it needs."""
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise fault(f"The file {path} has no list of {key}")
    fields = FIELDS[key].items()
    for k, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise fault(f"{key}[{k}] in the file {path} is not an object")
        for name, kind in fields:
            if not isinstance(entry.get(name), kind) or entry[name] == "":
                raise fault(f"{key}[{k}] in the file {path} has no valid {name!r}")
    return entries


def _by_id(path: Path, entries: list[Entry], what: str) -> dict[int, Entry]:
    table: dict[int, Entry] = {}
    for entry in entries:
        if table.setdefault(entry["id"], entry) is not entry:
            raise fault(f"The file {path} has two entries with {what} id {entry['id']}")
    return table


def _check_annotations(
    path: Path, entries: list[Entry], images: Mapping[int, Entry], categories: Mapping[int, Entry]
) -> None:
    """Every annotation belongs to an image and a category and has a box of four finite numbers.

    Training skips boxes thinner than a pixel or outside their image and masks without a polygon.
    COCO itself has such boxes (train2017: two of 860,001), so they are an error only where they
    are more than one in a thousand.
    """
    skipped = []
    for entry in entries:
        name = f"Annotation {entry['id']} in the file {path}"
        image = images.get(entry["image_id"])
        if image is None:
            raise fault(f"{name} is of image {entry['image_id']}, which the file does not list")
        if entry["category_id"] not in categories:
            raise fault(f"{name} has the unknown category {entry['category_id']}")
        if not _is_box(entry["bbox"]):
            raise fault(f"{name} has the box {entry['bbox']} instead of x, y, width and height")
        size, mask = f"{image['height']}x{image['width']}", entry["segmentation"]
        if mask not in ("polygons", "degenerate", size):
            raise fault(f"{name} has a mask of {mask} pixels on an image of {size}")
        if mask == "degenerate" or not entry["area"] > 0 or _is_degenerate(entry["bbox"], image):
            skipped.append(entry)
    if len(skipped) > SKIPPED * len(entries):
        raise fault(
            f"{len(skipped)} of the {len(entries)} annotations in the file {path} are degenerate, "
            f"with a box thinner than one pixel or outside the image or an empty mask (first: "
            f"annotation {skipped[0]['id']} with the box {skipped[0]['bbox']}), more than one in "
            "a thousand"
        )


def _is_box(box: list[Any]) -> bool:
    return len(box) == 4 and all(isinstance(v, int | float) and math.isfinite(v) for v in box)


def _is_degenerate(box: list[float], image: Entry) -> bool:
    x, y, width, height = box
    outside = x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0
    return width < 1 or height < 1 or outside


def _check_images(path: Path, folder: Path, images: Mapping[int, Entry]) -> list[tuple[str, int]]:
    """Names and sizes in bytes, sorted; every file is there and some are of the size listed."""
    sizes = []
    for entry in images.values():
        file = folder / entry["file_name"]
        try:
            sizes.append((entry["file_name"], file.stat().st_size))
        except OSError:
            raise fault(f"The image {file}, named in the file {path}, does not exist") from None
    for entry in evenly(list(images.values())):
        size = image_size(folder / entry["file_name"])
        if size is None:
            raise fault(f"The image {folder / entry['file_name']} cannot be read")
        if size != (entry["width"], entry["height"]):
            raise fault(
                f"The image {folder / entry['file_name']} has {size[0]} x {size[1]} pixels, not "
                f"{entry['width']} x {entry['height']} as the file {path} says"
            )
    return sorted(sizes)
