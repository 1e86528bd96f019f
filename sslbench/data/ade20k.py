"""Finds and checks ADE20K trees: one label map, a PNG file, beside every image."""

from __future__ import annotations

from pathlib import Path

from sslbench.data.checks import Checked, evenly, grey_levels, image_size
from sslbench.data.dataset import digest
from sslbench.errors import UserError

TREE = (
    "images/{training,validation}/*.jpg with annotations/{training,validation}/*.png of the same "
    "names, sizes and values 0 (unlabelled) to the number of classes"
)
INNER = "ADEChallengeData2016"  # the folder in ADE20K's archive
SPLITS = {
    "train": ("training",),
    "validation": ("validation", "test"),
    "test": ("test", "validation"),
}
CLASSES = 150  # of ADE20K; a tree without a list of classes is taken to have these


def fault(text: str) -> UserError:
    """The error that says what is wrong and what an ADE20K tree looks like."""
    return UserError(f"{text}: an ADE20K tree has {TREE}.")


def locate(root: Path, split: str) -> tuple[Path, Path]:
    """Folders of images and label maps of a split, in `root` or its ADEChallengeData2016.

    The validation split stands in for test and vice versa.
    """
    base = root / INNER if (root / INNER).is_dir() else root
    for name in SPLITS[split]:
        images, maps = base / "images" / name, base / "annotations" / name
        if maps.is_dir():
            if not images.is_dir():
                raise fault(f"The folder {images} does not exist")
            return images, maps
    names = " or ".join(SPLITS[split])
    raise fault(f"The folder {base / 'annotations'} has no folder {names}")


def check(images: Path, annotations: Path) -> Checked:
    """Reads a split; raises UserError for what training or judging would stumble over.

    Names are compared for all files; sizes and labels are read for 500 pairs at equal distances
    (all, if there are no more). The classes are those of the file objectInfo*.txt at the top of
    the tree, else 150 without names. The fingerprint covers the class names and the files' names
    and sizes in bytes.
    """
    classes = _classes(images.parents[1])
    photos, maps = _files(images, ".jpg"), _files(annotations, ".png")
    if not photos:
        raise fault(f"The folder {images} contains no .jpg images")
    counts = f"({len(photos)} images, {len(maps)} label maps)"
    if alone := sorted(photos.keys() - maps.keys()):
        raise fault(f"The image {photos[alone[0]]} has no label map {alone[0]}.png {counts}")
    if alone := sorted(maps.keys() - photos.keys()):
        raise fault(f"The label map {maps[alone[0]]} has no image {alone[0]}.jpg {counts}")
    for stem in evenly(sorted(photos)):
        _check_pair(photos[stem], maps[stem], len(classes))
    sizes = [(s, photos[s].stat().st_size, maps[s].stat().st_size) for s in sorted(photos)]
    return Checked(len(photos), classes, digest(classes, sizes))


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    """Files with the suffix directly in the folder, by stem; hidden ones are skipped."""
    paths = (path for path in folder.iterdir() if path.name[0] != ".")
    return {path.stem: path for path in paths if path.suffix == suffix}


def _check_pair(photo: Path, path: Path, classes: int) -> None:
    """A label map has one channel, its image's size and no label above the number of classes."""
    size, labels = image_size(photo), grey_levels(path)
    if size is None:
        raise fault(f"The image {photo} cannot be read")
    if labels is None:
        raise fault(f"The label map {path} cannot be read as a PNG file of one 8-bit channel")
    if labels.shape != size[::-1]:
        raise fault(
            f"The label map {path} has {labels.shape[1]} x {labels.shape[0]} pixels, but its "
            f"image has {size[0]} x {size[1]}"
        )
    if labels.max() > classes:
        raise fault(f"The label map {path} has the label {labels.max()} of {classes} classes")


def _classes(base: Path) -> tuple[str, ...]:
    """Class names: the first synonym in each row (tab-separated: number, ..., name)."""
    lists = sorted(base.glob("objectInfo*.txt"))
    if not lists:
        return tuple(f"class {k}" for k in range(1, CLASSES + 1))
    lines = lists[0].read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:] if line.strip()]  # the first is the header
    if not rows or any(
        row[0].strip() != str(k) or len(row) < 2 for k, row in enumerate(rows, start=1)
    ):
        raise fault(
            f"The list of classes {lists[0]} is not a header and tab-separated lines of number, "
            "..., name"
        )
    return tuple(row[-1].replace(";", ",").split(",")[0].strip() for row in rows)
