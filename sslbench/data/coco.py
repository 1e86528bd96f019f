"""Finds and checks COCO trees: box and mask annotations in one JSON file per split."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from sslbench.data.checks import Checked, Look, contents_of, leave_out, look_at, turned, warn_hidden
from sslbench.data.coco_copy import normalised
from sslbench.data.coco_entries import Entry, read
from sslbench.data.dataset import digest
from sslbench.data.splits import WORDS
from sslbench.errors import UserError
from sslbench.system.printing import printable

TREE = (
    "annotations/instances_{train,val}2017.json with the images in {train,val}2017/, or "
    "{train,valid}/_annotations.coco.json beside the images"
)
STAND_INS = {
    "train": ("train",), "validation": ("validation", "test"), "test": ("test", "validation")
}  # fmt: skip
YEARS = ("2017", "2014", "")
NAMES, TRAIN, EVALUATED = "a4822adebc5288e4", 117_266, 5_000  # of COCO 2017, see `is_coco`


def fault(text: str) -> UserError:
    """The error that says what is wrong and what a COCO tree looks like."""
    return UserError(f"{text}: a COCO tree has {TREE}.")


def locate(root: Path, split: str) -> tuple[Path, Path]:
    """Image folder and annotation file of a split, validation standing in for test and vice versa.

    See `_places` for the layouts; the first annotation file that exists counts.
    """
    names = [f"{word}{year}" for part in STAND_INS[split] for year in YEARS for word in WORDS[part]]
    for name in names:
        for file, folders in _places(root, name):
            if file.is_file():
                for folder in folders:
                    if folder.is_dir():
                        return folder, file
                raise fault(f"The folder {printable(folders[0])} does not exist")
    raise fault(
        f"The folder {printable(root)} has no annotations of its {split} split (looked for "
        f"annotations/instances_NAME.json, annotations/NAME.json and NAME/_annotations.coco.json, "
        f"NAME being {', '.join(names[:-1])} or {names[-1]})"
    )


def _places(root: Path, name: str) -> Iterator[tuple[Path, list[Path]]]:
    """Where a split's annotations may lie, each with where its images may."""
    beside = [root / name, root / "images" / name]
    same = [
        word for words in WORDS.values() if name.rstrip("0123456789") in words for word in words
    ]
    beside += [root / word for word in same]
    yield root / "annotations" / f"instances_{name}.json", beside
    yield root / "annotations" / f"{name}.json", beside
    yield root / name / "_annotations.coco.json", [root / name]


def check(images: Path, annotations: Path) -> Checked:
    """Reads a split; raises UserError for what training or testing would stumble over.

    Every entry of the file is checked and every image decoded (once, see `look_at`). Images that
    cannot be decoded and annotations that cover nothing are left out, up to a fifth. Classes are
    the categories in the order of the file. The fingerprint covers the contents of the annotation
    file and of the images. `Checked.annotations` is the file itself, or a copy in the cache where
    the libraries would read it otherwise than it is meant.
    """
    content = read(annotations, fault)
    names = [entry["file_name"] for entry in content.images.values()]
    _check_files(annotations, images, names)
    looks = look_at(images, names)
    _check_sizes(annotations, images, content.images.values(), looks)
    warn_hidden(images, names, looks)
    broken = {name: look.reason for name, look in zip(names, looks, strict=True) if look.reason}
    leave_out(images, broken, len(names))
    ((_, written),) = contents_of(annotations.parent, [annotations.name])
    return Checked(
        count=len(names) - sum(name in broken for name in names),
        listed=len(names),
        classes=content.classes,
        fingerprint=digest(written, contents_of(images, names)),
        annotations=normalised(annotations, content, written, broken),
    )


def is_coco(train: Checked, test: Checked) -> bool:
    """Whether the tree is COCO 2017 itself: its 80 classes, images to train on, and val2017.

    Some copies leave out the 1,021 training images without an object.
    """
    return digest(*train.classes) == NAMES and train.listed >= TRAIN and test.listed == EVALUATED


def _check_files(path: Path, folder: Path, names: Sequence[str]) -> None:
    """Every image is a regular file inside the folder.

    Symbolic links are followed, as clusters keep data behind them: who writes into the folder
    decides what lies there, but an annotation file does not decide what else is read.
    """
    for name in names:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name:
            raise fault(
                f"The file {printable(path)} names the image {name!r}, which is not inside the "
                f"folder {printable(folder)}"
            )
        file = folder / name
        try:
            mode = os.stat(file).st_mode  # noqa: PTH116 (a hundred thousand of them)
        except OSError:
            raise fault(
                f"The image {printable(file)}, named in the file {printable(path)}, does not exist"
            ) from None
        if not stat.S_ISREG(mode):
            raise fault(
                f"The image {printable(file)}, named in the file {printable(path)}, is not a "
                "regular file"
            )


def _check_sizes(path: Path, folder: Path, entries: Iterable[Entry], looks: Sequence[Look]) -> None:
    """Images have the sizes listed, upright: what the boxes and masks refer to."""
    for entry, look in zip(entries, looks, strict=True):
        size = (entry["width"], entry["height"])
        if look.reason or look.size == size:
            continue
        file = folder / entry["file_name"]
        raise fault(
            f"The image {printable(file)} has {look.size[0]} x {look.size[1]} pixels{turned(file)},"
            f" not {size[0]} x {size[1]} as the file {printable(path)} says; annotate the image as "
            "it is seen upright, or store it without an orientation"
        )
