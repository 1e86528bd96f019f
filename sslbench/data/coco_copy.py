"""The copy of an annotation file that mmdet and pycocotools read where it would mislead them.

pycocotools takes an object whose annotation has the id 0 for none, reads polygons of four numbers
as boxes, and knows no image that cannot be decoded.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sslbench.data.checks import write_json
from sslbench.data.coco_entries import LARGEST_ID, Annotated, Entry, slim
from sslbench.data.coco_masks import usable
from sslbench.data.dataset import digest
from sslbench.data.reading import read_text
from sslbench.storage.home import home

VERSION = "1"  # of the rules below


def normalised(path: Path, content: Annotated, written: str, broken: Collection[str]) -> Path:
    """`path`, or where the libraries would not read it as `content` says, a copy in the cache.

    written: hash of the file's content; broken: names of images that are left out.
    """
    if content.plain and not broken:
        return path
    copy = home().absolute() / "annotations" / f"{digest(VERSION, written, sorted(broken))}.json"
    write_json(copy, _rewritten(json.loads(read_text(path)), content, broken))
    return copy


def _rewritten(raw: Any, content: Annotated, broken: Collection[str]) -> dict[str, list[Entry]]:
    images, categories = _ids(content.images), _ids(content.categories)
    kept = {old for old, entry in content.images.items() if entry["file_name"] not in broken}
    annotations = [
        _annotation(entry)
        for k, entry in enumerate(raw["annotations"])
        if k not in content.dropped and int(entry["image_id"]) in kept
    ]
    for k, entry in enumerate(annotations, start=1):
        owner, kind = images[int(entry["image_id"])], categories[int(entry["category_id"])]
        entry.update(id=k, image_id=owner, category_id=kind)
    return {
        "images": [
            {**content.images[old], "id": images[old]} for old in content.images if old in kept
        ],
        "annotations": annotations,
        "categories": [
            {**entry, "id": categories[old]} for old, entry in content.categories.items()
        ],
    }


def _ids(entries: dict[int, Entry]) -> dict[int, int]:
    """Old id -> new one: the old ones where the libraries can take them, else 1, 2, ..."""
    if all(0 <= old < LARGEST_ID for old in entries):
        return {old: old for old in entries}
    return {old: k for k, old in enumerate(entries, start=1)}


def _annotation(entry: Entry) -> Entry:
    """An annotation with the fields filled in that were not given."""
    mask = entry["segmentation"]
    return {
        **entry,
        "area": slim(dict(entry))["area"],
        "iscrowd": int(entry.get("iscrowd") or 0),
        "segmentation": usable(mask) if isinstance(mask, list) else mask,
    }
