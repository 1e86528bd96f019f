"""iNaturalist 2018 and 2019 in the official layout of the competitions.

The folder holds `train<year>.json`, `val<year>.json`, optionally `categories.json`, and the images
as `train_val<year>/<super category>/<category id>/<file>`. The test images have no public labels,
so the papers test on `val`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sslbench.data.coco_entries import MAX_ID, text
from sslbench.data.dataset import FileImages
from sslbench.data.reading import read_text
from sslbench.errors import UserError
from sslbench.storage.files import parse_json
from sslbench.system.printing import printable

YEARS = ("2018", "2019")
MAX_BYTES = 2**30  # of a list: several million images
Entry = dict[str, Any]


def years_of(root: Path) -> list[str]:
    """Return the years whose two lists lie in `root`; empty if it is no iNaturalist folder."""
    return [
        year
        for year in YEARS
        if all((root / f"{part}{year}.json").is_file() for part in ("train", "val"))
    ]


def open_inaturalist(root: Path, split: str, official: bool = False) -> FileImages:
    """Open the train images, or `val` as both validation and test.

    Classes are the categories in the order of their ids. official: number them as iBOT does, by
    the first appearance of their names among the training annotations, and take the class of an
    image from its folder, as a position in categories.json (INatDataset in
    evaluation/semi_supervised/eval_cls.py).

    Raises UserError for lists that cannot be read or contradict themselves, and missing images.
    """
    years = years_of(root)
    if len(years) != 1:
        raise UserError(
            f"The folder {printable(root)} holds the lists of {len(years)} years of iNaturalist "
            f"({', '.join(years)}): keep those of one."
        )
    train = root / f"train{years[0]}.json"
    path = train if split == "train" else root / f"val{years[0]}.json"
    content = _read(path)
    names = _names(root, path, _entries(path, content, "images"))
    if official:
        classes, labels = _official(root, train, list(names.values()))
    else:
        classes, labels = _by_id(root, train, path, content, names)
    paths = list(names.values())
    order = sorted(range(len(paths)), key=paths.__getitem__)
    return FileImages(
        root=root,
        name=f"iNaturalist-{years[0]}" + ("?labels=official" if official else ""),
        split=split,
        names=[paths[k] for k in order],
        labels=labels[order],
        classes=classes,
    )


def _by_id(
    root: Path, train: Path, path: Path, content: Any, names: dict[int, str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the class names in the order of their ids, and the label of each image."""
    source, categories = _categories(root, train)
    by_id = {_id(source, entry, "id"): _name(source, entry) for entry in categories}
    if len(by_id) < len(categories):
        raise UserError(f"The file {printable(source)} has two categories of one id: remove one.")
    number = {key: k for k, key in enumerate(sorted(by_id))}
    labels: dict[int, int] = {}
    for entry in _entries(path, content, "annotations"):
        image, category = _id(path, entry, "image_id"), _id(path, entry, "category_id")
        if image in labels or image not in names:
            reason = "annotates twice" if image in labels else "annotates but does not list"
            raise UserError(
                f"The file {printable(path)} {reason} the image of id {image}: every image needs "
                "one entry in each list."
            )
        if category not in number:
            raise UserError(
                f"The file {printable(path)} uses category {category}, which {printable(source)} "
                "does not list: take both files from one release."
            )
        labels[image] = number[category]
    if missing := next((name for key, name in names.items() if key not in labels), ""):
        raise UserError(
            f"The file {printable(path)} has no annotation for {printable(missing)}: every image "
            "needs one."
        )
    return tuple(by_id[key] for key in number), np.array([labels[key] for key in names])


def _official(root: Path, train: Path, names: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the class names in the order of first appearance, and the label of each image."""
    source, categories = _categories(root, train)

    def name_at(position: int) -> str:
        if position < len(categories):
            return _name(source, categories[position])
        raise UserError(
            f"The file {printable(source)} has no category at position {position}: take it from "
            "the release of the images."
        )

    annotations = _entries(train, _read(train), "annotations")
    order = dict.fromkeys(name_at(_id(train, entry, "category_id")) for entry in annotations)
    number = {name: k for k, name in enumerate(order)}
    labels = []
    for path in names:
        parts = path.split("/")
        if len(parts) != 4 or not (parts[2].isascii() and parts[2].isdecimal()):
            raise UserError(
                f"The image {printable(path)} is not below train_val<year>/<super category>/"
                "<category id>: leave out ?labels=official."
            )
        if (name := name_at(int(parts[2][:16]))) not in number:
            raise UserError(
                f"The class {printable(name)} of {printable(path)} has no training image: leave "
                "out ?labels=official."
            )
        labels.append(number[name])
    return tuple(order), np.array(labels)


def _categories(root: Path, train: Path) -> tuple[Path, list[Entry]]:
    """Return the file that names the categories, and its entries."""
    path = root / "categories.json"
    if path.is_file():
        return path, _entries(path, {"categories": _read(path)}, "categories")
    return train, _entries(train, _read(train), "categories")


def _read(path: Path) -> Any:
    try:
        return parse_json(read_text(path, MAX_BYTES))
    except (OSError, ValueError) as error:
        raise UserError(
            f"The file {printable(path)} cannot be read as JSON ({printable(str(error))[:160]}): "
            "download it again."
        ) from error


def _entries(path: Path, content: Any, key: str) -> list[Entry]:
    entries = content.get(key) if isinstance(content, dict) else None
    if isinstance(entries, list) and entries and all(isinstance(e, dict) for e in entries):
        return entries
    raise UserError(f"The file {printable(path)} holds no list of {key}: download it again.")


def _id(path: Path, entry: Entry, key: str) -> int:
    value = entry.get(key)
    if type(value) is int and 0 <= value <= MAX_ID:
        return value
    raise UserError(
        f"The file {printable(path)} has the {key} {printable(str(value)[:40])}, not a whole "
        "number from 0 on: download it again."
    )


def _name(path: Path, entry: Entry) -> str:
    if name := text(entry.get("name")):
        return printable(name)
    raise UserError(f"The file {printable(path)} has a category without a name: download it again.")


def _names(root: Path, path: Path, entries: list[Entry]) -> dict[int, str]:
    """Return id -> path of each image relative to `root`; every file exists and lies in it."""
    names: dict[int, str] = {}
    for entry in entries:
        key, name = _id(path, entry, "id"), text(entry.get("file_name"))
        if not name or "\0" in name or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise UserError(
                f"The file {printable(path)} names the image {printable(str(name)[:160])}, which "
                "is not a path inside its folder: correct it."
            )
        if key in names:
            raise UserError(f"The file {printable(path)} has two images of id {key}: remove one.")
        if not _is_file(root / name):
            raise UserError(
                f"The file {printable(path)} names the image {printable(name)}, which does not "
                f"exist in {printable(root)}: unpack the images there."
            )
        names[key] = name
    if len(set(names.values())) < len(names):
        raise UserError(f"The file {printable(path)} lists an image file twice: remove one entry.")
    return names


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for the file system, or not encodable
        return False
