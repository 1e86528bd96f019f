"""One door to the data of detection and segmentation: `open_dense`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sslbench.data import ade20k, coco, scenes
from sslbench.data.checks import Checked
from sslbench.data.dataset import digest
from sslbench.data.generated import read_manifest
from sslbench.data.home import home
from sslbench.errors import UserError, nearest

EMBEDDED = "shapes"
SPLITS = ("test", "validation")


@dataclass(frozen=True)
class DenseSplit:
    """images: a folder; annotations: COCO's JSON file or ADE20K's folder of PNG files."""

    images: Path
    annotations: Path
    count: int


@dataclass(frozen=True)
class DenseData:
    """An annotated tree to train and to judge on.

    kind: "coco" | "ade20k"; name: for records; fingerprint: equal for equal data, wherever they
    lie; classes: in the order of COCO's categories or of ADE20K's labels 1, 2, ...; test: what is
    judged on, `split` says which ("test" | "validation"). Paths are absolute.
    """

    kind: str
    name: str
    fingerprint: str
    classes: tuple[str, ...]
    train: DenseSplit
    test: DenseSplit
    split: str


class _Tree(NamedTuple):
    """How one kind of tree is read."""

    locate: Callable[[Path, str], tuple[Path, Path]]
    check: Callable[[Path, Path], Checked]
    fault: Callable[[str], UserError]


KINDS = {
    "coco": _Tree(coco.locate, coco.check, coco.fault),
    "ade20k": _Tree(ade20k.locate, ade20k.check, ade20k.fault),
}


def open_dense(kind: str, source: str | Path, split: str = "test") -> DenseData:
    """The train split and the split to judge on of an annotated tree.

    kind: "coco" or "ade20k"; source: "shapes" (the scenes, generated below `home()` on first use)
    or a folder; split: "test" or "validation", each standing in for the other where it is
    missing, as in COCO and ADE20K themselves.

    Raises UserError for a tree that is incomplete or contradicts itself; see `coco.check` and
    `ade20k.check`.
    """
    if kind not in KINDS:
        raise UserError(f"Unknown kind of data {kind!r}: {nearest(kind, KINDS)}.")
    if split not in SPLITS:
        raise UserError(f"Unknown split {split!r} to judge on: {nearest(split, SPLITS)}.")
    if str(source) == EMBEDDED:
        return open_scenes(kind, split, scenes.ScenesConfig())
    root = Path(source).expanduser().absolute()
    if not root.is_dir():
        raise KINDS[kind].fault(f"The folder {root} does not exist, nor is it {EMBEDDED!r}")
    return _open_tree(kind, kind, root, split)


def open_scenes(
    kind: str, split: str, config: scenes.ScenesConfig, root: Path | None = None
) -> DenseData:
    """The scenes, written below `root` (default: the cache) on first use."""
    folder = scenes.generate((root or home()) / f"scenes-v{scenes.VERSION}", config)
    sums = (read_manifest(folder) or {})["sha256"]
    # Not the files' sizes: these depend on the machine's JPEG encoder.
    fingerprint = digest(kind, sums["train"], sums[split])
    return _open_tree(kind, f"{EMBEDDED}-{kind}", folder / kind, split, fingerprint)


def _open_tree(
    kind: str, name: str, root: Path, split: str, fingerprint: str | None = None
) -> DenseData:
    tree = KINDS[kind]
    places = [tree.locate(root, part) for part in ("train", split)]
    train, test = (tree.check(*place) for place in places)
    if train.classes != test.classes:
        raise tree.fault(
            f"The classes in {places[1][1]} are not those in {places[0][1]}, in the same order"
        )
    return DenseData(
        kind=kind,
        name=name,
        fingerprint=fingerprint or digest(kind, train.fingerprint, test.fingerprint),
        classes=train.classes,
        train=DenseSplit(*places[0], train.count),
        test=DenseSplit(*places[1], test.count),
        split=split,
    )
