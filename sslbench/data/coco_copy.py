"""A corrected copy of an annotation file that mmdet and pycocotools would misread.

pycocotools ignores an object whose annotation has the id 0, reads polygons of four numbers as boxes
and cannot skip undecodable images.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sslbench.data.checks import write_json
from sslbench.data.coco_entries import MAX_ID, Annotations, Entry, with_summary
from sslbench.data.coco_masks import usable_polygons
from sslbench.data.dataset import digest
from sslbench.data.reading import read_text
from sslbench.storage.home import home

VERSION = "1"  # of the rules below


def normalised(path: Path, content: Annotations, file_hash: str, broken: Collection[str]) -> Path:
    """Return `path`, or a corrected copy in the cache if the libraries would misread the file.

    file_hash: of the file's content; broken: names of images to leave out.
    """
    if content.plain and not broken:
        return path
    copy = home().absolute() / "annotations" / f"{digest(VERSION, file_hash, sorted(broken))}.json"
    write_json(copy, _rewritten(json.loads(read_text(path)), content, broken))
    return copy


def _rewritten(raw: Any, content: Annotations, broken: Collection[str]) -> dict[str, list[Entry]]:
    image_ids, category_ids = _new_ids(content.images), _new_ids(content.categories)
    kept = {old for old, entry in content.images.items() if entry["file_name"] not in broken}
    annotations = [
        _annotation(entry)
        for k, entry in enumerate(raw["annotations"])
        if k not in content.dropped and int(entry["image_id"]) in kept
    ]
    for k, entry in enumerate(annotations, start=1):
        image_id = image_ids[int(entry["image_id"])]
        entry.update(id=k, image_id=image_id, category_id=category_ids[int(entry["category_id"])])
    return {
        "images": [
            {**content.images[old], "id": image_ids[old]} for old in content.images if old in kept
        ],
        "annotations": annotations,
        "categories": [
            {**entry, "id": category_ids[old]} for old, entry in content.categories.items()
        ],
    }


def _new_ids(entries: dict[int, Entry]) -> dict[int, int]:
    """Return old id -> new id: the same if the libraries can represent all, else 1, 2, ..."""
    if all(0 <= old < MAX_ID for old in entries):
        return {old: old for old in entries}
    return {old: k for k, old in enumerate(entries, start=1)}


def _annotation(entry: Entry) -> Entry:
    """Return an annotation with missing fields filled in and short polygons left out."""
    mask = entry["segmentation"]
    return {
        **entry,
        "area": with_summary(dict(entry))["area"],
        "iscrowd": int(entry.get("iscrowd") or 0),
        "segmentation": usable_polygons(mask) if isinstance(mask, list) else mask,
    }
