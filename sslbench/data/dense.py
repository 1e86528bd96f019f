"""One door to the data of detection and segmentation: `open_dense`."""

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
    """What training or testing reads, and nothing else.

    images: a folder; annotations: COCO's JSON file, or the list of pairs of image and label map
    (`ade20k.check`); count: images; pixels: labelled ones of each class in all label maps.
    """

    images: Path
    annotations: Path
    count: int
    pixels: tuple[int, ...] = ()


@dataclass(frozen=True)
class DenseData:
    """An annotated tree to train and to evaluate on.

    kind: "coco" | "ade20k"; name: for records; fingerprint: equal for equal data, wherever they
    lie; classes: in the order of COCO's categories or of ADE20K's labels 1, 2, ...; test: what is
    evaluated, `split` says which ("test" | "validation"). Paths are absolute.
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
    """How one kind of tree is read, and whether one is the published set itself."""

    locate: Callable[[Path, str], tuple[Path, Path]]
    check: Callable[[Path, Path], Checked]
    fault: Callable[[str], UserError]
    is_published: Callable[[Checked, Checked], bool]


KINDS = {
    "coco": _Tree(coco.locate, coco.check, coco.fault, coco.is_coco),
    "ade20k": _Tree(ade20k.locate, ade20k.check, ade20k.fault, ade20k.is_ade20k),
}


def open_dense(kind: str, source: str | Path, split: str = "test") -> DenseData:
    """The train split and the split to evaluate on of an annotated tree.

    kind: "coco" or "ade20k"; source: "shapes" (the scenes, generated below `home()` on first use)
    or a folder; split: "test" or "validation" ("val" for short), each standing in for the other
    where it is missing, as in COCO and ADE20K themselves. A tree is named by its folder, but COCO
    and ADE20K by their own names, with which the papers' figures are found.

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
    train, test, found = _checked(kind, root, split)
    published = KINDS[kind].is_published(train, test)
    return DenseData(
        kind=kind,
        name=kind if published else _own_name(kind, root),
        fingerprint=digest(kind, train.fingerprint, test.fingerprint),
        classes=train.classes,
        train=found[0],
        test=found[1],
        split=split,
    )


def _own_name(kind: str, root: Path) -> str:
    """The folder's name, with which nobody takes a tree for the published set."""
    name = short_name(root)
    return f"{name} (own)" if re.sub("[^a-z0-9]", "", name.casefold()) == kind else name


def open_scenes(
    kind: str, split: str, config: scenes.ScenesConfig, root: Path | None = None
) -> DenseData:
    """The scenes, written below `root` (default: the cache) on first use."""
    folder = scenes.generate((root or home()) / f"scenes-v{scenes.VERSION}", config)
    sums = (read_manifest(folder) or {})["sha256"]
    train, _, found = _checked(kind, folder / kind, split)
    return DenseData(
        kind=kind,
        name=f"{EMBEDDED}-{kind}",
        # of what was drawn: the files depend on the machine's JPEG encoder
        fingerprint=digest(kind, sums["train"], sums[split]),
        classes=train.classes,
        train=found[0],
        test=found[1],
        split=split,
        embedded=True,
    )


def _checked(
    kind: str, root: Path, split: str
) -> tuple[Checked, Checked, tuple[DenseSplit, DenseSplit]]:
    """Both splits of a tree as they were checked, and what is read of them."""
    tree = KINDS[kind]
    places = [tree.locate(root, part) for part in ("train", split)]
    train, test = (tree.check(*place) for place in places)
    if train.classes != test.classes:
        raise tree.fault(
            f"The classes in {printable(places[1][1])} are not those in "
            f"{printable(places[0][1])}, in the same order"
        )
    read = tuple(
        DenseSplit(images, part.annotations, part.count, part.pixels)
        for (images, _), part in zip(places, (train, test), strict=True)
    )
    return train, test, (read[0], read[1])
