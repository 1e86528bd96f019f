"""List files as datasets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sslbench.data.dataset import FileImages
from sslbench.data.folders import short_name
from sslbench.data.reading import read_lines
from sslbench.errors import UserError
from sslbench.system.printing import printable


def open_list(path: Path, split: str) -> FileImages:
    """Open the images listed in a text file, as a train split.

    Each line holds one path, relative to the file, and optionally a label after a tab or the last
    space; see `read_lines` for encodings. Classes are the distinct labels, spelled as in the file.
    They are numbered by value if all are whole numbers, else in the order of their text. Images are
    sorted and named relative to the last folder that they share, so neither the order of the lines
    nor the place of the files changes the dataset.

    Raises UserError for a missing image, an empty list, a negative label and a list in which only
    some lines have labels.
    """
    shown = printable(path)
    if split != "train":
        raise UserError(
            f"The list file {shown} holds one set of images and is read as train, not as {split}: "
            f"give a folder with train and {split} folders."
        )
    lines = [line.strip(" \t") for line in read_lines(path)]
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=1) if line]
    if not rows:
        raise UserError(f"The list file {shown} names no images: write one path per line.")
    rows = sorted((str(path.parent.absolute() / name), label) for name, label in rows)
    texts = [label for _, label in rows if label]
    if 0 < len(texts) < len(rows):
        unlabelled = next(name for name, label in rows if not label)
        raise UserError(
            f"The list file {shown} has labels for {len(texts)} of {len(rows)} images only (none "
            f"for {printable(unlabelled)}): label all or none."
        )
    labels, classes = _numbered(texts) if texts else (None, ())
    root, names = _common_root([name for name, _ in rows])
    return FileImages(
        root=root,
        name=short_name(path),
        split=split,
        names=names,
        labels=labels,
        classes=classes,
        unlabelled="" if texts else f"the lines of {shown} end without a label",
    )


def _row(path: Path, number: int, line: str) -> tuple[str, str]:
    """Return the path and the label ("" if none) in one line of a list file."""
    name, label = line, ""
    if "\t" in line:
        name, label = (part.strip() for part in line.rsplit("\t", 1))
    elif " " in line and not _is_file(path.parent / line):
        name, label = line.rsplit(maxsplit=1)
    if not _is_file(path.parent / name):
        raise UserError(
            f"Line {number} of {printable(path)} names the file {printable(path.parent / name)}, "
            f"which {_problem(path.parent / name)}: paths are relative to the list file."
        )
    if label.startswith("-") and label[1:].isdecimal():
        raise UserError(
            f"Line {number} of {printable(path)} has the label {label}: labels are whole numbers "
            "from 0 on or names of classes; leave out the label of an unlabelled image."
        )
    return name, label


def _common_root(paths: list[str]) -> tuple[Path, list[str]]:
    """Return the last folder that all of these files share, and their paths relative to it."""
    root = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120 (a million)
    return Path(root), [path.removeprefix(root).lstrip("/") for path in paths]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False


def _problem(path: Path) -> str:
    if os.path.lexists(path):
        return "is neither a regular file nor a link to one"
    stray_bytes = any("\udc80" <= character <= "\udcff" for character in str(path))
    remedy = " (save the list as UTF-8 if the name is another)" if stray_bytes else ""
    return "does not exist" + remedy


def _numbered(texts: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return label numbers 0 to K - 1 and the K class names; see `open_list`."""
    numeric = all(text.isascii() and text.isdecimal() for text in texts)
    keys = [_by_value(text) if numeric else (0, text) for text in texts]
    names = dict(zip(reversed(keys), reversed(texts), strict=True))  # the first spelling wins
    number = {key: k for k, key in enumerate(sorted(names))}
    return np.array([number[key] for key in keys]), tuple(printable(names[k]) for k in number)


def _by_value(digits: str) -> tuple[int, str]:
    """Return a key that sorts digit strings of any length by their value."""
    significant = digits.lstrip("0")
    return len(significant), significant
