"""Opens the datasets of detection and segmentation: `open_dense`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sslbench.data import ade20k, coco, scenes
from sslbench.data.checks import Checked
from sslbench.data.dataset import digest
from sslbench.data.folders import short_name
from sslbench.data.generated import read_manifest
from sslbench.data.splits import EVALUATED, split_named
from sslbench.errors import UserError, nearest
from sslbench.storage.home import expanded, home
from sslbench.system.printing import printable

EMBEDDED = "shapes"


@dataclass(frozen=True)
class DenseSplit:
    """The files that training or testing reads.

    images: a folder; annotations: COCO's JSON file, or the list of pairs of image and label map
    (`ade20k.check`); count: of images; pixels: labelled pixels of each class in all label maps.
    """

    images: Path
    annotations: Path
    count: int
    pixels: tuple[int, ...] = ()


@dataclass(frozen=True)
class DenseData:
    """An annotated tree to train and evaluate on.

    kind: "coco" | "ade20k"; name: for records; fingerprint: equal for equal data in any folder;
    classes: in the order of COCO's categories or of ADE20K's labels 1, 2, ...; test: the split to
    evaluate on, named by `split` ("test" | "validation"). Paths are absolute.
    """

    kind: str
    name: str
    fingerprint: str
    classes: tuple[str, ...]
    train: DenseSplit
    test: DenseSplit
    split: str
    embedded: bool = False


class _Tree(NamedTuple):
    """The functions that read one kind of tree and recognise the published dataset."""

    locate: Callable[[Path, str], tuple[Path, Path]]
    check: Callable[[Path, Path], Checked]
    fault: Callable[[str], UserError]
    is_published: Callable[[Checked, Checked], bool]


KINDS = {
    "coco": _Tree(coco.locate, coco.check, coco.fault, coco.is_coco),
    "ade20k": _Tree(ade20k.locate, ade20k.check, ade20k.fault, ade20k.is_ade20k),
}


def open_dense(kind: str, source: str | Path, split: str = "test") -> DenseData:
    """Open the train split and the split to evaluate on of an annotated tree.

    kind: "coco" or "ade20k"; source: "shapes" (the scenes, generated below `home()` on first use)
    or a folder; split: "test" or "validation" ("val" for short), which replace each other if one
    is missing, as in COCO and ADE20K themselves. A tree is named by its folder, except COCO and
    ADE20K themselves, whose names the papers' figures use.

    Raises UserError for a tree that is incomplete or contradicts itself; see `coco.check` and
    `ade20k.check`.
    """
    if kind not in KINDS:
        raise UserError(f"Unknown kind of data {kind!r}: {nearest(kind, KINDS)}.")
    split = split_named(split, EVALUATED)
    if str(source) == EMBEDDED:
        return open_scenes(kind, split, scenes.ScenesConfig())
    root = expanded(source).absolute()
    if not root.is_dir():
        raise KINDS[kind].fault(
            f"The folder {printable(root)} does not exist, nor is it {EMBEDDED!r}"
        )
    train, test, splits = _checked(kind, root, split)
    published = KINDS[kind].is_published(train, test)
    return DenseData(
        kind=kind,
        name=kind if published else _distinct_name(kind, root),
        fingerprint=digest(kind, train.fingerprint, test.fingerprint),
        classes=train.classes,
        train=splits[0],
        test=splits[1],
        split=split,
    )


def _distinct_name(kind: str, root: Path) -> str:
    """Return the folder's name, marked if it could be mistaken for the published dataset."""
    name = short_name(root)
    return f"{name} (own)" if re.sub("[^a-z0-9]", "", name.casefold()) == kind else name


def open_scenes(
    kind: str, split: str, config: scenes.ScenesConfig, root: Path | None = None
) -> DenseData:
    """Open the scenes; on first use they are generated below `root` (default: `home()`)."""
    folder = scenes.generate((root or home()) / f"scenes-v{scenes.VERSION}", config)
    checksums = (read_manifest(folder) or {})["sha256"]
    train, _, splits = _checked(kind, folder / kind, split)
    return DenseData(
        kind=kind,
        name=f"{EMBEDDED}-{kind}",
        # hashes of the rendered pixels, because the files depend on the machine's JPEG encoder
        fingerprint=digest(kind, checksums["train"], checksums[split]),
        classes=train.classes,
        train=splits[0],
        test=splits[1],
        split=split,
        embedded=True,
    )


def _checked(
    kind: str, root: Path, split: str
) -> tuple[Checked, Checked, tuple[DenseSplit, DenseSplit]]:
    """Check both splits of a tree; return the results and the files to read of each split."""
    tree = KINDS[kind]
    paths = [tree.locate(root, part) for part in ("train", split)]
    train, test = (tree.check(images, annotations) for images, annotations in paths)
    if train.classes != test.classes:
        raise tree.fault(
            f"The classes in {printable(paths[1][1])} are not those in "
            f"{printable(paths[0][1])}, in the same order"
        )
    splits = tuple(
        DenseSplit(images, part.annotations, part.count, part.pixels)
        for (images, _), part in zip(paths, (train, test), strict=True)
    )
    return train, test, (splits[0], splits[1])
