"""Finds and checks ADE20K trees: one label map, a PNG file, beside every image."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sslbench.data.checks import (
    Checked,
    ImageInfo,
    contents_of,
    inspect_images,
    report_broken,
    rotation_note,
    warn_hidden,
    write_json,
)
from sslbench.data.dataset import digest
from sslbench.data.label_maps import IGNORED, LabelInfo, inspect_label_maps
from sslbench.data.reading import is_image, read_lines
from sslbench.data.splits import WORDS
from sslbench.data.walking import files_below
from sslbench.errors import UserError
from sslbench.storage.home import home
from sslbench.system.printing import printable

TREE = (
    "images/{training,validation}/*.jpg with annotations/{training,validation}/*.png of the same "
    "names, sizes and values 0 or 255 (unlabelled) or 1 to the number of classes"
)
INNER = "ADEChallengeData2016"  # the folder in ADE20K's archive
STAND_INS = {
    "train": ("train",), "validation": ("validation", "test"), "test": ("test", "validation")
}  # fmt: skip
CLASSES = 150  # of ADE20K, assumed for a tree without a list of classes
# of ADE20K itself, see `is_ade20k`
FIRST_CLASSES, MIN_TRAIN_IMAGES, TEST_IMAGES = ("wall", "building", "sky"), 20_000, 2_000
VERSION = "1"  # of the list of pairs
log = logging.getLogger(__name__)


def fault(text: str) -> UserError:
    """Return the error for `text`, which also says what an ADE20K tree looks like."""
    return UserError(f"{text}: an ADE20K tree has {TREE}.")


def locate(root: Path, split: str) -> tuple[Path, Path]:
    """Return the folders of images and label maps of a split, in `root` or ADEChallengeData2016.

    Their names are those of `splits.WORDS`; validation and test replace each other if one is
    missing.
    """
    base = root / INNER if (root / INNER).is_dir() else root
    names = [word for part in STAND_INS[split] for word in reversed(WORDS[part])]
    for name in names:
        images, maps = base / "images" / name, base / "annotations" / name
        if maps.is_dir():
            if not images.is_dir():
                raise fault(f"The folder {printable(images)} does not exist")
            return images, maps
    raise fault(
        f"The folder {printable(base / 'annotations')} has no folder {', '.join(names[:-1])} or "
        f"{names[-1]}"
    )


def check(images: Path, annotations: Path) -> Checked:
    """Check a split; raise UserError for anything on which training or testing would fail.

    Sub-folders are read, hidden files are not. Every image and every label map is decoded (once,
    see `inspect_images`); up to a fifth of the pairs may be broken and are left out. The class
    names come from the file objectInfo*.txt at the top of the tree; without it there are 150
    unnamed classes. The fingerprint covers the class names and the contents of the files.
    `Checked.annotations` is a list of the pairs, in the cache.
    """
    classes = _classes(images.parents[1])
    pairs = _pairs(images, annotations)
    photos, maps = [photo for photo, _ in pairs], [label_map for _, label_map in pairs]
    infos, label_infos = inspect_images(images, photos), inspect_label_maps(annotations, maps)
    for pair, info, labels in zip(pairs, infos, label_infos, strict=True):
        _check_pair(images / pair[0], annotations / pair[1], info, labels, len(classes))
    warn_hidden(images, photos, infos)
    broken = {
        pair[0]: info.reason or f"its label map: {labels.reason}"
        for pair, info, labels in zip(pairs, infos, label_infos, strict=True)
        if info.reason or labels.reason
    }
    report_broken(images, broken, len(pairs))
    readable = [pair for pair in pairs if pair[0] not in broken]
    labels_of = dict(zip(maps, label_infos, strict=True))
    return Checked(
        count=len(readable),
        listed=len(pairs),
        classes=classes,
        fingerprint=digest(classes, contents_of(images, photos), contents_of(annotations, maps)),
        annotations=_write_pairs(images, annotations, readable),
        pixels=_pixels(annotations, {name: labels_of[name] for _, name in readable}, len(classes)),
    )


def is_ade20k(train: Checked, test: Checked) -> bool:
    """Return whether the tree is ADE20K itself: its 150 classes, 20,210 and 2,000 images.

    Many copies lack the archive's list of class names.
    """
    first = train.classes[: len(FIRST_CLASSES)]
    names_fit = train.classes == _numbered_names(CLASSES) or first == FIRST_CLASSES
    sizes_fit = train.listed >= MIN_TRAIN_IMAGES and test.listed == TEST_IMAGES
    return len(train.classes) == CLASSES and names_fit and sizes_fit


def _pairs(images: Path, maps: Path) -> list[tuple[str, str]]:
    """Return sorted (image, label map) pairs, relative to their folders, with equal stems."""
    photos = _by_stem(images, [n for n in files_below(images) if is_image(n)])
    labels = _by_stem(maps, [n for n in files_below(maps) if n.lower().endswith(".png")])
    if not photos:
        raise fault(f"The folder {printable(images)} contains no images")
    counts = f"({len(photos)} images, {len(labels)} label maps)"
    if alone := sorted(photos.keys() - labels.keys()):
        raise fault(
            f"The image {printable(images / photos[alone[0]])} has no label map "
            f"{printable(alone[0])}.png {counts}"
        )
    if alone := sorted(labels.keys() - photos.keys()):
        raise fault(
            f"The label map {printable(maps / labels[alone[0]])} has no image "
            f"{printable(alone[0])}.jpg {counts}"
        )
    return [(photos[stem], labels[stem]) for stem in sorted(photos)]


def _by_stem(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return path without suffix -> path."""
    table: dict[str, str] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        if table.setdefault(stem, name) != name:
            raise fault(
                f"The files {printable(folder / table[stem])} and {printable(name)} differ only in "
                "their suffix, so it is unclear which of them belongs to the pair"
            )
    return table


def _check_pair(photo: Path, path: Path, info: ImageInfo, labels: LabelInfo, classes: int) -> None:
    """Check that a label map has one channel, its image's size and labels within the classes."""
    if labels.unfit:
        raise fault(f"The label map {printable(path)} {labels.unfit}")
    if info.reason or labels.reason:
        return
    if labels.size != info.size:
        raise fault(
            f"The label map {printable(path)} has {labels.size[0]} x {labels.size[1]} pixels"
            f"{rotation_note(path)}, but its image has {info.size[0]} x {info.size[1]}"
            f"{rotation_note(photo)}; label the upright image, or store it without an orientation"
        )
    highest = max((k for k in labels.pixels if k != IGNORED), default=0)
    if highest > classes:
        raise fault(f"The label map {printable(path)} has the label {highest} of {classes} classes")


def _pixels(folder: Path, labels: Mapping[str, LabelInfo], classes: int) -> tuple[int, ...]:
    """Return the pixels of each class over all maps; UserError if none is labelled."""
    total: Counter[int] = Counter()
    for info in labels.values():
        total.update(info.pixels)
    pixels = tuple(total[k] for k in range(1, classes + 1))
    empty = [name for name, info in labels.items() if not info.pixels.keys() - {0, IGNORED}]
    if not sum(pixels):
        raise fault(
            f"No pixel is labelled in the {len(empty)} label maps of {printable(folder)}, all of "
            f"whose values are 0 or {IGNORED} (first: {printable(empty[0])})"
        )
    if empty:
        log.warning(
            "%s: %d of %d label maps have no labelled pixel and are not counted (first: %s).",
            printable(folder), len(empty), len(labels), printable(empty[0]),
        )  # fmt: skip
    return pixels


def _write_pairs(images: Path, maps: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """Write the list of pairs that training and testing read to the cache; return its path."""
    content = {"images": str(images), "maps": str(maps), "pairs": pairs}
    path = home().absolute() / "annotations" / f"{digest(VERSION, content)}.json"
    write_json(path, content)
    return path


def _numbered_names(classes: int) -> tuple[str, ...]:
    return tuple(f"class {k}" for k in range(1, classes + 1))


def _classes(base: Path) -> tuple[str, ...]:
    """Return class names: the first synonym in each row (tab-separated: number, ..., name)."""
    lists = sorted(path for path in base.glob("objectInfo*.txt") if path.is_file())
    if not lists:
        return _numbered_names(CLASSES)
    _, *lines = read_lines(lists[0])  # the header and the rows
    rows = [line.split("\t") for line in lines if line.strip()]
    if not rows or any(
        row[0].strip() != str(k) or len(row) < 2 for k, row in enumerate(rows, start=1)
    ):
        raise fault(
            f"The list of classes {printable(lists[0])} is not a header and tab-separated lines of "
            "number, ..., name"
        )
    if len(rows) >= IGNORED:
        raise fault(
            f"The list of classes {printable(lists[0])} has {len(rows)} classes, more than the "
            f"{IGNORED - 1} that 8 bits can distinguish"
        )
    return tuple(row[-1].replace(";", ",").split(",")[0].strip() for row in rows)
