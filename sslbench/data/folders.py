"""Image folders as datasets."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from itertools import groupby
from pathlib import Path

import numpy as np

from sslbench.data.dataset import FileImages
from sslbench.data.reading import EXTENSIONS, is_image, is_junk, upright_size
from sslbench.data.splits import WORDS
from sslbench.data.walking import files_below
from sslbench.errors import UserError
from sslbench.system.printing import printable

IMAGENET = "ImageNet-1K"
log = logging.getLogger(__name__)

# ImageNet has no labelled test split and is evaluated on `val`; other sets have `test` only: each
# stands in for the other where it is missing.
STAND_INS = {
    "train": ("train",), "validation": ("validation", "test"), "test": ("test", "validation")
}  # fmt: skip


def open_folder(root: Path, split: str) -> FileImages:
    """`split` of a folder of images.

    Read as: `root/<split>/...` where folders are named by `splits.WORDS` (see `_split_folders`),
    otherwise all of `root`, as the train split. Inside, the first-level folders in which an image
    can be opened, at any depth, are the classes, and those of the train split count for every
    split; with images beside them, or with fewer than two of them, the set is unlabelled. What is
    an image and what a system left behind says `reading.is_image`. The set is named by its path,
    and ImageNet-1K if its classes are ImageNet's.

    Raises UserError when the split is missing, no image is found, a folder cannot be read, or class
    folders do not match those of the train split.
    """
    folder = split_folder(root, split)
    names = sorted(_images(folder))
    if not names:
        raise UserError(
            f"The folder {printable(folder)} contains no images: {', '.join(EXTENSIONS)} files are "
            "read."
        )
    names = _without_dead_folders(folder, names)
    train = _split_folders(root).get("train", folder)
    classes = _classes(train) if train != folder else _heads(names)
    unlabelled = _unlabelled(folder, names, classes)
    return FileImages(
        root=folder,
        name=IMAGENET if _is_imagenet(classes) else short_name(root),
        split=split,
        names=names,
        labels=None if unlabelled else _labels(folder, names, classes),
        classes=() if unlabelled else tuple(map(printable, classes)),
        unlabelled=unlabelled,
    )


def short_name(path: Path) -> str:
    """What a folder or list is called: the last part of its path, the one above a folder "train".

    A record's dataset is known by its content, so the name may be short, and no private path
    enters a record or a table.
    """
    path = path.absolute()
    named = path.parent if path.name == "train" else path
    return "".join(c if c.isprintable() else "?" for c in named.name or str(path))


def _is_imagenet(classes: list[str]) -> bool:
    """Whether these are the 1,000 WordNet ids of ImageNet-1K, sorted."""
    if len(classes) != 1000:
        return False
    ids = resources.files("timm.data") / "_info" / "imagenet_synsets.txt"
    return classes == ids.read_text().split()


def split_folder(root: Path, split: str) -> Path:
    """The folder of `split` inside `root`; see `open_folder`."""
    found = _split_folders(root)
    for part in STAND_INS[split]:
        if part in found:
            return found[part]
    if split == "train" and not found:
        return root
    words = [word for part in STAND_INS[split] for word in WORDS[part]]
    raise UserError(
        f"The folder {printable(root)} has no {split} split: looked for a folder named "
        f"{' or '.join(words)} in it."
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders of `root` that are splits by their names, in any case.

    Of several for one split the split's own name counts first, then the order of `WORDS`. A lone
    folder whose name is not in lower case ("Train" beside "Car") is rather a class.
    """
    with _readable(str(root)):
        there = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    found = {
        split: root / name
        for split, words in WORDS.items()
        for word in (*reversed(words), split)
        for name in there  # lower case last, hence kept
        if name.lower() == word
    }
    lone = len(found) == 1 and not next(iter(found.values())).name.islower()
    return {} if lone else found


def _images(folder: Path) -> Iterator[str]:
    """Paths of all images below `folder`, relative to it."""
    return filter(is_image, files_below(folder))


@contextmanager
def _readable(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The folder {printable(folder)} cannot be read ({error.strerror}): make it readable "
            "or move it out of the dataset."
        ) from error


def _classes(folder: Path) -> list[str]:
    """Names of the first-level folders that hold an image at any depth, sorted."""
    with _readable(str(folder)):
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    return sorted(n for n in names if not is_junk(n) and _opens(folder / n, _images(folder / n)))


def _opens(folder: Path, names: Iterable[str]) -> bool:
    """Whether one of these images can be opened; as a rule the first one can."""
    return any(upright_size(folder / name) for name in names)


def _without_dead_folders(folder: Path, names: list[str]) -> list[str]:
    """`names` less those of first-level folders in which no image can be opened: no classes."""
    if any("/" not in name for name in names):
        return names  # no classes at all
    dead = {
        head
        for head, below in groupby(names, key=lambda name: name.partition("/")[0])
        if not _opens(folder, below)
    }
    if not dead or len(dead) == len(_heads(names)):
        return names  # nobody's fault, or everything's: which is said where they are read
    log.warning(
        "%s: no image can be opened in %d of its folders, which are left out (first: %s).",
        printable(folder), len(dead), printable(min(dead)),
    )  # fmt: skip
    return [name for name in names if name.partition("/")[0] not in dead]


def _heads(names: Iterable[str]) -> list[str]:
    """The same for a folder whose images are known."""
    return sorted({name.partition("/")[0] for name in names if "/" in name})


def _unlabelled(folder: Path, names: list[str], classes: list[str]) -> str:
    """Why the images of a split have no labels, empty if they have."""
    beside = [name for name in names if "/" not in name]
    heads = _heads(names)
    if beside and heads:
        more = f" and {len(beside) - 1} more images lie" if len(beside) > 1 else " lies"
        return f"{printable(folder / beside[0])}{more} beside its {len(heads)} folders of images"
    if beside:
        return f"its images lie in {printable(folder)} itself and not in folders of their classes"
    if len(classes) < 2:
        one = f"{printable(folder)} has one folder of images, {printable(heads[0])}"
        return f"{one}, and classes are two or more"
    if not set(heads) & set(classes):
        return (
            f"none of the folders in {printable(folder)} ({printable(heads[0])}, ...) is a class "
            f"of the train split ({printable(classes[0])}, ...)"
        )
    return ""


def _labels(folder: Path, names: list[str], classes: list[str]) -> np.ndarray:
    """Index of each image's first-level folder in `classes`; UserError if it is none of them."""
    if unknown := sorted(set(_heads(names)) - set(classes)):
        raise UserError(
            f"The folder {printable(folder / unknown[0])} is not a class of the train split, which "
            f"has {len(classes)} folders with images: rename or remove it."
        )
    number = {name: k for k, name in enumerate(classes)}
    return np.array([number[name.partition("/")[0]] for name in names])
