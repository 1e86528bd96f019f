"""Finds and checks ADE20K trees: one label map, a PNG file, beside every image."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sslbench.data.checks import (
    Checked,
    Look,
    contents_of,
    leave_out,
    look_at,
    turned,
    warn_hidden,
    write_json,
)
from sslbench.data.dataset import digest
from sslbench.data.label_maps import IGNORED, Labels, look_at_maps
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
CLASSES = 150  # of ADE20K; a tree without a list of classes is taken to have these
FIRST, TRAIN, EVALUATED = ("wall", "building", "sky"), 20_000, 2_000  # of ADE20K, see `is_ade20k`
VERSION = "1"  # of the list of pairs
log = logging.getLogger(__name__)


def fault(text: str) -> UserError:
    """The error that says what is wrong and what an ADE20K tree looks like."""
    return UserError(f"{text}: an ADE20K tree has {TREE}.")


def locate(root: Path, split: str) -> tuple[Path, Path]:
    """Folders of images and label maps of a split, in `root` or its ADEChallengeData2016.

    They are called training, train, validation, valid, val, test or testing; the validation split
    stands in for test and vice versa.
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
    """Reads a split; raises UserError for what training or testing would stumble over.

    Sub-folders are read, hidden files are not. Every image and every label map is decoded (once,
    see `look_at`); pairs of which one is broken are left out, up to a fifth. The classes are those
    of the file objectInfo*.txt at the top of the tree, else 150 without names. The fingerprint
    covers the class names and the contents of the files. `Checked.annotations` is a list of the
    pairs, in the cache.
    """
    classes = _classes(images.parents[1])
    pairs = _pairs(images, annotations)
    photos, maps = [photo for photo, _ in pairs], [label for _, label in pairs]
    looks, labels = look_at(images, photos), look_at_maps(annotations, maps)
    for pair, look, found in zip(pairs, looks, labels, strict=True):
        _check_pair(images / pair[0], annotations / pair[1], look, found, len(classes))
    warn_hidden(images, photos, looks)
    broken = {
        pair[0]: look.reason or f"its label map: {found.reason}"
        for pair, look, found in zip(pairs, looks, labels, strict=True)
        if look.reason or found.reason
    }
    leave_out(images, broken, len(pairs))
    kept = [pair for pair in pairs if pair[0] not in broken]
    found_in = dict(zip(maps, labels, strict=True))
    return Checked(
        count=len(kept),
        listed=len(pairs),
        classes=classes,
        fingerprint=digest(classes, contents_of(images, photos), contents_of(annotations, maps)),
        annotations=_listed(images, annotations, kept),
        pixels=_pixels(annotations, {name: found_in[name] for _, name in kept}, len(classes)),
    )


def is_ade20k(train: Checked, test: Checked) -> bool:
    """Whether the tree is ADE20K itself: its 150 classes, 20,210 and 2,000 images.

    The names of the classes are in the archive, but many copies leave their list out.
    """
    names = train.classes == _numbered(CLASSES) or train.classes[: len(FIRST)] == FIRST
    sized = train.listed >= TRAIN and test.listed == EVALUATED
    return len(train.classes) == CLASSES and names and sized


def _pairs(images: Path, maps: Path) -> list[tuple[str, str]]:
    """(image, label map) relative to their folders, sorted: equal names but for the suffix."""
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
    """Path without suffix -> path."""
    table: dict[str, str] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        if table.setdefault(stem, name) != name:
            raise fault(
                f"The files {printable(folder / table[stem])} and {printable(name)} have one name "
                "but for the suffix, so that their partner is not known"
            )
    return table


def _check_pair(photo: Path, path: Path, look: Look, labels: Labels, classes: int) -> None:
    """A label map has one channel, its image's size and no label above the number of classes."""
    if labels.unfit:
        raise fault(f"The label map {printable(path)} {labels.unfit}")
    if look.reason or labels.reason:
        return
    if labels.size != look.size:
        raise fault(
            f"The label map {printable(path)} has {labels.size[0]} x {labels.size[1]} pixels"
            f"{turned(path)}, but its image has {look.size[0]} x {look.size[1]}{turned(photo)}; "
            "label the image as it is seen upright, or store it without an orientation"
        )
    highest = max((k for k in labels.pixels if k != IGNORED), default=0)
    if highest > classes:
        raise fault(f"The label map {printable(path)} has the label {highest} of {classes} classes")


def _pixels(folder: Path, labels: Mapping[str, Labels], classes: int) -> tuple[int, ...]:
    """Pixels of each class over all maps; UserError where not one is labelled."""
    total: Counter[int] = Counter()
    for found in labels.values():
        total.update(found.pixels)
    pixels = tuple(total[k] for k in range(1, classes + 1))
    bare = [name for name, found in labels.items() if not found.pixels.keys() - {0, IGNORED}]
    if not sum(pixels):
        raise fault(
            f"No pixel is labelled in the {len(bare)} label maps of {printable(folder)}, all of "
            f"whose values are 0 or {IGNORED} (first: {printable(bare[0])})"
        )
    if bare:
        log.warning(
            "%s: %d of %d label maps have no labelled pixel and count for nothing (first: %s).",
            printable(folder), len(bare), len(labels), printable(bare[0]),
        )  # fmt: skip
    return pixels


def _listed(images: Path, maps: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """The list of pairs that training and testing read, in the cache."""
    content = {"images": str(images), "maps": str(maps), "pairs": pairs}
    path = home().absolute() / "annotations" / f"{digest(VERSION, content)}.json"
    write_json(path, content)
    return path


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(f"class {k}" for k in range(1, classes + 1))


def _classes(base: Path) -> tuple[str, ...]:
    """Class names: the first synonym in each row (tab-separated: number, ..., name)."""
    lists = sorted(path for path in base.glob("objectInfo*.txt") if path.is_file())
    if not lists:
        return _numbered(CLASSES)
    rows = [
        line.split("\t") for line in read_lines(lists[0])[1:] if line.strip()
    ]  # after the header
    if not rows or any(
        row[0].strip() != str(k) or len(row) < 2 for k, row in enumerate(rows, start=1)
    ):
        raise fault(
            f"The list of classes {printable(lists[0])} is not a header and tab-separated lines of "
            "number, ..., name"
        )
    if len(rows) >= IGNORED:
        raise fault(
            f"The list of classes {printable(lists[0])} has {len(rows)}, more than the "
            f"{IGNORED - 1} that 8 bits tell apart"
        )
    return tuple(row[-1].replace(";", ",").split(",")[0].strip() for row in rows)
