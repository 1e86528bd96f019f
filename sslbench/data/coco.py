"""Finds and checks COCO trees: box and mask annotations in one JSON file per split."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from sslbench.data.checks import (
    Checked,
    ImageInfo,
    contents_of,
    inspect_images,
    report_broken,
    rotation_note,
    warn_hidden,
)
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
# of COCO 2017, see `is_coco`
CLASSES_DIGEST, MIN_TRAIN_IMAGES, TEST_IMAGES = "a4822adebc5288e4", 117_266, 5_000


def fault(text: str) -> UserError:
    """Return the error for `text`, which also says what a COCO tree looks like."""
    return UserError(f"{text}: a COCO tree has {TREE}.")


def locate(root: Path, split: str) -> tuple[Path, Path]:
    """Return image folder and annotation file of a split.

    Validation and test replace each other if one is missing. See `_layouts`; the first annotation
    file that exists counts.
    """
    names = [f"{word}{year}" for part in STAND_INS[split] for year in YEARS for word in WORDS[part]]
    for name in names:
        for file, folders in _layouts(root, name):
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


def _layouts(root: Path, name: str) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the possible annotation files of a split, each with its possible image folders."""
    folders = [root / name, root / "images" / name]
    synonyms = [
        word for words in WORDS.values() if name.rstrip("0123456789") in words for word in words
    ]
    folders += [root / word for word in synonyms]
    yield root / "annotations" / f"instances_{name}.json", folders
    yield root / "annotations" / f"{name}.json", folders
    yield root / name / "_annotations.coco.json", [root / name]


def check(images: Path, annotations: Path) -> Checked:
    """Check a split; raise UserError for anything on which training or testing would fail.

    Every entry of the file is checked and every image decoded (once, see `inspect_images`). Images
    that cannot be decoded and annotations that cover nothing are left out, up to a fifth. Classes
    are the categories in the order of the file. The fingerprint covers the contents of the
    annotation file and of the images. `Checked.annotations` is the file itself, or a copy in the
    cache if the libraries would misread it.
    """
    content = read(annotations, fault)
    names = [entry["file_name"] for entry in content.images.values()]
    _check_files(annotations, images, names)
    infos = inspect_images(images, names)
    _check_sizes(annotations, images, content.images.values(), infos)
    warn_hidden(images, names, infos)
    broken = {name: info.reason for name, info in zip(names, infos, strict=True) if info.reason}
    report_broken(images, broken, len(names))
    ((_, file_hash),) = contents_of(annotations.parent, [annotations.name])
    return Checked(
        count=len(names) - sum(name in broken for name in names),
        listed=len(names),
        classes=content.classes,
        fingerprint=digest(file_hash, contents_of(images, names)),
        annotations=normalised(annotations, content, file_hash, broken),
    )


def is_coco(train: Checked, test: Checked) -> bool:
    """Return whether the tree is COCO 2017 itself: its 80 classes, training images and val2017.

    Some copies leave out the 1,021 training images without an object.
    """
    sizes_fit = train.listed >= MIN_TRAIN_IMAGES and test.listed == TEST_IMAGES
    return digest(*train.classes) == CLASSES_DIGEST and sizes_fit


def _check_files(path: Path, folder: Path, names: Sequence[str]) -> None:
    """Check that every image is a regular file inside the folder.

    Symbolic links are followed because clusters use them. The owner of the folder controls those,
    but an annotation file must not make other files readable.
    """
    for name in names:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or "\0" in name:
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


def _check_sizes(
    path: Path, folder: Path, entries: Iterable[Entry], infos: Sequence[ImageInfo]
) -> None:
    """Check that upright images have the listed sizes, to which the boxes and masks refer."""
    for entry, info in zip(entries, infos, strict=True):
        size = (entry["width"], entry["height"])
        if info.reason or info.size == size:
            continue
        file = folder / entry["file_name"]
        raise fault(
            f"The image {printable(file)} has {info.size[0]} x {info.size[1]} pixels"
            f"{rotation_note(file)}, not {size[0]} x {size[1]} as the file {printable(path)} says; "
            "annotate the upright image, or store it without an orientation"
        )
