"""Image folders and list files as datasets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from sslbench.data.dataset import FileImages
from sslbench.errors import UserError

IMAGENET = "ImageNet-1K"
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

# Folder names looked for, in this order. ImageNet has no labelled test split and is judged on
# `val`; other sets have `test` only: each stands in for the other where it is missing.
SPLIT_FOLDERS = {
    "train": ("train",),
    "validation": ("validation", "val", "test"),
    "test": ("test", "val", "validation"),
}


def open_folder(root: Path, split: str) -> FileImages:
    """`split` of a folder of images.

    Read as: `root/<split>/...` where a folder named train, validation, val or test exists,
    otherwise all of `root`, as the train split. Inside, first-level folders are the classes;
    with images beside them, or with fewer than two of them, the set is unlabelled. It is named by
    its path, and ImageNet-1K if its classes are ImageNet's.

    Raises UserError when the split is missing, no image is found, or class folders do not match
    those of the train split.
    """
    folder = split_folder(root, split)
    names = sorted(_images(folder))
    if not names:
        raise UserError(
            f"The folder {folder} contains no images: {', '.join(EXTENSIONS)} files are read."
        )
    train = root / "train"
    classes = _subfolders(train if train.is_dir() else folder)
    labels = _labels(folder, names, classes)
    return FileImages(
        root=folder,
        name=IMAGENET if _is_imagenet(classes) else short_name(root),
        split=split,
        names=names,
        labels=labels,
        classes=() if labels is None else tuple(classes),
    )


def short_name(path: Path) -> str:
    """What a folder or list is called: the last part of its path, the one above a folder "train".

    A record's dataset is known by its content, so the name may be short, and no private path
    enters a record or a table.
    """
    path = path.absolute()
    named = path.parent if path.name == "train" else path
    return named.name or str(path)


def _is_imagenet(classes: list[str]) -> bool:
    """Whether these are the 1,000 WordNet ids of ImageNet-1K, sorted."""
    if len(classes) != 1000:
        return False
    ids = resources.files("timm.data") / "_info" / "imagenet_synsets.txt"
    return classes == ids.read_text().split()


def split_folder(root: Path, split: str) -> Path:
    """The folder of `split` inside `root`; see `open_folder`."""
    for name in SPLIT_FOLDERS[split]:
        if (root / name).is_dir():
            return root / name
    has_splits = any((root / name).is_dir() for name in SPLIT_FOLDERS["test"] + ("train",))
    if split == "train" and not has_splits:
        return root
    raise UserError(
        f"The folder {root} has no {split} split: looked for a folder named "
        f"{' or '.join(SPLIT_FOLDERS[split])} in it."
    )


def _images(folder: Path) -> Iterator[str]:
    """Paths of all images below `folder`, relative to it; hidden files and folders are skipped."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        base = Path(parent).relative_to(folder).as_posix()
        for name in files:
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield name if base == "." else f"{base}/{name}"


def _subfolders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")


def _labels(folder: Path, names: list[str], classes: list[str]) -> np.ndarray | None:
    """Index of each image's first-level folder in `classes`; None if there are no classes."""
    heads = [name.partition("/")[0] if "/" in name else "" for name in names]
    unknown = sorted(set(heads) - set(classes))
    if len(classes) < 2 or len(unknown) == len(set(heads)) or "" in unknown:
        return None
    if unknown:
        raise UserError(
            f"The folder {folder / unknown[0]} is not a class of the train split, which has "
            f"{len(classes)} class folders: rename or remove it."
        )
    number = {name: k for k, name in enumerate(classes)}
    return np.array([number[head] for head in heads])


def open_list(path: Path, split: str) -> FileImages:
    """Images listed in a text file, which is a train split.

    One path a line, relative to the file, with an optional label (a number or a class name) after
    a tab or the last space. Raises UserError for a missing image, an empty list and a list of
    which only some lines have labels.
    """
    if split != "train":
        raise UserError(
            f"The list file {path} holds one set of images and is read as train, not as {split}: "
            f"give a folder with train and {split} folders."
        )
    rows = [
        _row(path, number, line.strip())
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if line.strip()
    ]
    if not rows:
        raise UserError(f"The list file {path} names no images: write one path per line.")
    names = [name for name, _ in rows]
    texts = [label for _, label in rows if label]
    if 0 < len(texts) < len(rows):
        bare = next(name for name, label in rows if not label)
        raise UserError(
            f"The list file {path} has labels for {len(texts)} of {len(rows)} images only (none "
            f"for {bare}): label all or none."
        )
    labels, classes = _numbered(texts) if texts else (None, ())
    return FileImages(
        root=path.parent,
        name=short_name(path),
        split=split,
        names=names,
        labels=labels,
        classes=classes,
    )


def _row(path: Path, number: int, line: str) -> tuple[str, str]:
    """The path and the label ("" if none) in one line of a list file."""
    name, label = line, ""
    if "\t" in line:
        name, label = (part.strip() for part in line.rsplit("\t", 1))
    elif " " in line and not (path.parent / line).is_file():
        name, label = line.rsplit(maxsplit=1)
    if not (path.parent / name).is_file():
        raise UserError(
            f"Line {number} of {path} names the file {path.parent / name}, which does not exist: "
            "paths are relative to the list file."
        )
    return name, label


def _numbered(texts: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Label numbers and class names: whole numbers are kept, names are numbered in order."""
    if all(text.isdecimal() for text in texts):
        labels = np.array([int(text) for text in texts])
        return labels, tuple(str(k) for k in range(labels.max() + 1))
    classes, labels = np.unique(texts, return_inverse=True)
    return labels, tuple(classes.tolist())
