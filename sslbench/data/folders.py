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

# ImageNet has no labelled test split and is evaluated on `val`; other sets have only `test`. Each
# replaces the other if it is missing.
STAND_INS = {
    "train": ("train",), "validation": ("validation", "test"), "test": ("test", "validation")
}  # fmt: skip


def open_folder(root: Path, split: str) -> FileImages:
    """Open `split` of a folder of images.

    The split is `root/<split>/...` if folders are named as in `splits.WORDS` (see
    `_split_folders`); otherwise all of `root` is the train split. Its first-level folders with at
    least one readable image, at any depth, are the classes; the train split determines them for
    every split. The set is unlabelled if images lie beside these folders or there are fewer than
    two. `reading.is_image` decides which files are read. The set is named by its path, or
    ImageNet-1K if its classes are ImageNet's.

    Raises UserError if the split is missing, no image is found, a folder cannot be read, or class
    folders do not match those of the train split.
    """
    folder = split_folder(root, split)
    names = sorted(_images(folder))
    if not names:
        raise UserError(
            f"The folder {printable(folder)} contains no images: {', '.join(EXTENSIONS)} files are "
            "read."
        )
    names = _without_unreadable_folders(folder, names)
    train = _split_folders(root).get("train", folder)
    classes = _classes(train) if train != folder else _first_folders(names)
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
    """Return the last part of a path, or that of its parent if the last part is "train".

    Records identify a dataset by its content, so a short name suffices and keeps private paths out
    of records and tables.
    """
    path = path.absolute()
    base = path.parent if path.name == "train" else path
    return "".join(c if c.isprintable() else "?" for c in base.name or str(path))


def _is_imagenet(classes: list[str]) -> bool:
    """Return whether these are the 1,000 WordNet ids of ImageNet-1K, sorted."""
    if len(classes) != 1000:
        return False
    ids = resources.files("timm.data") / "_info" / "imagenet_synsets.txt"
    return classes == ids.read_text().split()


def split_folder(root: Path, split: str) -> Path:
    """Return the folder of `split` inside `root`; see `open_folder`."""
    split_folders = _split_folders(root)
    for part in STAND_INS[split]:
        if part in split_folders:
            return split_folders[part]
    if split == "train" and not split_folders:
        return root
    words = [word for part in STAND_INS[split] for word in WORDS[part]]
    raise UserError(
        f"The folder {printable(root)} has no {split} split: looked for a folder named "
        f"{' or '.join(words)} in it."
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """Return split -> folder of `root` with that name, in any letter case.

    If several folders fit a split, its own name comes first, then the order of `WORDS`. A single
    folder whose name is not in lower case ("Train" beside "Car") is probably a class.
    """
    with _readable(str(root)):
        names = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    split_folders = {
        split: root / name
        for split, words in WORDS.items()
        for word in (*reversed(words), split)
        for name in names  # lower case sorts last, so it wins
        if name.lower() == word
    }
    single = len(split_folders) == 1
    probably_class = single and not next(iter(split_folders.values())).name.islower()
    return {} if probably_class else split_folders


def _images(folder: Path) -> Iterator[str]:
    """Yield the paths of all images below `folder`, relative to it."""
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
    """Return the first-level folders that hold a readable image at any depth, sorted."""
    with _readable(str(folder)):
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    return sorted(
        n for n in names if not is_junk(n) and _any_readable(folder / n, _images(folder / n))
    )


def _any_readable(folder: Path, names: Iterable[str]) -> bool:
    """Return whether one of these images can be opened; usually the first one can."""
    return any(upright_size(folder / name) for name in names)


def _without_unreadable_folders(folder: Path, names: list[str]) -> list[str]:
    """Return `names` without those of first-level folders in which no image can be opened."""
    if any("/" not in name for name in names):
        return names  # the set is unlabelled
    unreadable = {
        first
        for first, members in groupby(names, key=lambda name: name.partition("/")[0])
        if not _any_readable(folder, members)
    }
    if not unreadable or len(unreadable) == len(_first_folders(names)):
        return names  # if all are unreadable, reading them raises
    log.warning(
        "%s: no image can be opened in %d of its folders, which are left out (first: %s).",
        printable(folder), len(unreadable), printable(min(unreadable)),
    )  # fmt: skip
    return [name for name in names if name.partition("/")[0] not in unreadable]


def _first_folders(names: Iterable[str]) -> list[str]:
    """Return the first-level folders of these paths, sorted."""
    return sorted({name.partition("/")[0] for name in names if "/" in name})


def _unlabelled(folder: Path, names: list[str], classes: list[str]) -> str:
    """Return why the images of a split have no labels, "" if they have."""
    loose = [name for name in names if "/" not in name]
    folders = _first_folders(names)
    if loose and folders:
        more = f" and {len(loose) - 1} more images lie" if len(loose) > 1 else " lies"
        return f"{printable(folder / loose[0])}{more} beside its {len(folders)} folders of images"
    if loose:
        return f"its images lie in {printable(folder)} itself and not in folders of their classes"
    if len(classes) < 2:
        return (
            f"{printable(folder)} has one folder of images, {printable(folders[0])}, but labels "
            "need two or more classes"
        )
    if not set(folders) & set(classes):
        return (
            f"none of the folders in {printable(folder)} ({printable(folders[0])}, ...) is a class "
            f"of the train split ({printable(classes[0])}, ...)"
        )
    return ""


def _labels(folder: Path, names: list[str], classes: list[str]) -> np.ndarray:
    """Return the index in `classes` of each image's folder; UserError if it is not a class."""
    if unknown := sorted(set(_first_folders(names)) - set(classes)):
        raise UserError(
            f"The folder {printable(folder / unknown[0])} is not a class of the train split, which "
            f"has {len(classes)} folders with images: rename or remove it."
        )
    class_index = {name: k for k, name in enumerate(classes)}
    return np.array([class_index[name.partition("/")[0]] for name in names])
