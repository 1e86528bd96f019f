"""Parts of a training set: a share of every class's images, and images held out of training.

A share is read from a list file beside the images or drawn from the labels, the same for every
model. The papers' lists are SimCLRv2's `imagenet_subsets/1percent.txt` (12,811 names) and
`10percent.txt` (128,116), one file name a line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from sslbench.data.labels import need_labels
from sslbench.data.reading import read_lines
from sslbench.errors import UserError
from sslbench.system.printing import printable

if TYPE_CHECKING:
    from sslbench.data.dataset import ImageDataset

FOLDER = "subsets"
SHARE_SEED = 0  # of drawn lists; never the run's
HELD_OUT_SEED = int.from_bytes(b"held out", "big")


def training_parts(
    dataset: ImageDataset, share: float = 1.0, held_out_share: float = 0.0
) -> tuple[ImageDataset, ImageDataset | None]:
    """Return the part of `dataset` that is trained on and the part held out of it, if any.

    share, held_out_share: `data.share` and `data.held_out` of a recipe; the second is of what the
    first leaves. Each part has a name and a fingerprint of its own; the whole set is itself. Raises
    UserError as `labelled_share` does, and where there are no labels or nothing can be held out.
    """
    if share < 1:
        name = f"{dataset.name} ({100 * share:g}%)"
        dataset = dataset.subset(labelled_share(dataset, share), name)
    if not held_out_share:
        return dataset, None
    kept, chosen = held_out(need_labels(dataset, "data.held_out"), held_out_share)
    if not len(chosen):
        raise UserError(
            f"data.held_out={held_out_share:g} would leave every class of {dataset.name} without "
            "images to train on, because none has more than one; set it to 0 or give more images."
        )
    percent = f"{100 * held_out_share:g}% held out"
    return (
        dataset.subset(kept, f"{dataset.name} (without {percent})"),
        dataset.subset(chosen, f"{dataset.name} ({percent})"),
    )


def labelled_share(dataset: ImageDataset, share: float) -> np.ndarray:
    """Return the positions of the images that make up `share` of a dataset, ascending int64.

    They are those of its own list (`find_list`), else `stratified`. Raises UserError for a list
    that does not fit (`listed`), and, without a list, where the dataset has no labels or the share
    is less than one image per class.
    """
    if share >= 1:
        return np.arange(len(dataset))
    if path := find_list(dataset, share):
        return listed(path, dataset)
    labels = need_labels(dataset, f"data.share={share:g}")
    classes, images = len(np.unique(labels)), len(labels)
    if share * images < classes:
        raise UserError(
            f"data.share={share:g} of the {images} images of {dataset.name} is less than one image "
            f"for each of its {classes} classes; set it to at least "
            f"{math.ceil(1000 * classes / images) / 1000:g}."
        )
    return stratified(labels, share, SHARE_SEED)


def held_out(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of images that are trained on and of those held out, ascending int64.

    `share` of every class is held out, at least one image (none at 0), as long as one stays; so a
    class with one image keeps it. A function of the labels alone; a smaller share is a subset of a
    larger one.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    for members in _shuffled_classes(labels, HELD_OUT_SEED) if share else ():
        chosen[members[: min(_count(share, members), len(members) - 1)]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def stratified(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return the positions of `share` of every class (at least one image), ascending int64.

    A function of the labels and the seed alone: the same list for every model. Lists are nested:
    a smaller share is a subset of a larger one.
    """
    classes = _shuffled_classes(labels, seed)
    return np.sort(np.concatenate([members[: _count(share, members)] for members in classes]))


def _shuffled_classes(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the positions of each class's images in an order drawn with the seed."""
    return [
        np.random.default_rng([seed, int(c)]).permutation(np.flatnonzero(labels == c))
        for c in np.unique(labels)
    ]


def _count(share: float, members: np.ndarray) -> int:
    return max(1, round(share * len(members)))


def find_list(dataset: ImageDataset, share: float) -> Path | None:
    """`{1,10}percent.txt` in the folder of a dataset or in its folder `subsets`, if it is there.

    It is for the whole set: one shortened by --limit has none.
    """
    from sslbench.data.dataset import FileImages

    if not isinstance(dataset, FileImages) or dataset.shortened:
        return None
    folder = dataset.root.parent  # of train/
    name = f"{100 * share:g}percent.txt"
    return next((p for p in (folder / FOLDER / name, folder / name) if p.is_file()), None)


def names_in(path: Path) -> set[str]:
    """Return what a list names, which is all that two lists can differ in."""
    return {line.strip() for line in read_lines(path)} - {""}


def listed(path: Path, dataset: ImageDataset, index: np.ndarray | None = None) -> np.ndarray:
    """Return the places in `index` of the images that a list names, ascending int64.

    index: positions in the dataset of the images that can be read; None: all. A list names images
    with or without their folder. A name that the dataset does not have, or has in several folders,
    and a list of none of its readable images are a UserError.
    """
    wanted = names_in(path)
    places = _places(dataset.names)
    known = {name: places.get(name, []) for name in wanted}
    if unknown := sorted(name for name, at in known.items() if not at):
        raise UserError(
            f"{printable(path)} names {len(unknown)} of {len(wanted)} images that {dataset.name} "
            f"does not have (first: {printable(unknown[0])}); give the lists made for this dataset "
            "or remove the file."
        )
    if several := sorted(name for name, at in known.items() if len(at) > 1):
        first = several[0]
        raise UserError(
            f"{printable(path)} names {printable(first)}, which {dataset.name} has in "
            f"{len(known[first])} folders; write each name with its folder (class/name)."
        )
    chosen = [i for at in known.values() for i in at]
    rows = np.flatnonzero(np.isin(np.arange(len(dataset)) if index is None else index, chosen))
    if not len(rows):
        raise UserError(
            f"{printable(path)} names no image of {dataset.name} that can be read; give the lists "
            "made for this dataset or remove the file."
        )
    return rows


def _places(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the positions of the images that a name may mean; a full name means one alone."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(PurePosixPath(name).name, []).append(i)
    return places | {name: [i] for i, name in enumerate(names)}
