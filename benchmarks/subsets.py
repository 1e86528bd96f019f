"""Which images keep their label in semi-supervised classification: a list file's, or drawn here.

The papers' lists are SimCLRv2's `imagenet_subsets/1percent.txt` (12,811 names) and `10percent.txt`
(128,116), one file name a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from sslbench.benchmark import Features, Splits
from sslbench.data.reading import read_lines
from sslbench.errors import UserError
from sslbench.system.printing import printable

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "subsets"


def find_list(data: Splits, fraction: float) -> Path | None:
    """`{1,10}percent.txt` in the folder of a dataset or in its folder `subsets`, if it is there."""
    from sslbench.data.dataset import FileImages

    if not isinstance(data.train, FileImages):
        return None
    folder = data.train.root.parent  # of train/
    name = f"{100 * fraction:g}percent.txt"
    return next((p for p in (folder / FOLDER / name, folder / name) if p.is_file()), None)


def names_in(path: Path) -> set[str]:
    """What a list names, which is all that two lists can differ in."""
    return {line.strip() for line in read_lines(path)} - {""}


def listed(path: Path, data: Splits, train: Features) -> Tensor:
    """Rows of `train` whose images a list names, with or without their folder; ascending int64.

    An image that could not be read has no row. A name that the dataset does not have, or has in
    several folders, and a list of none of its readable images are a UserError.
    """
    import torch

    wanted = names_in(path)
    places = _places(data.train.names)
    known = {name: places.get(name, []) for name in wanted}
    if unknown := sorted(name for name, at in known.items() if not at):
        raise UserError(
            f"{printable(path)} names {len(unknown)} of {len(wanted)} images that {data.name} does "
            f"not have (first: {printable(unknown[0])}); give the lists made for this dataset or "
            "remove the file."
        )
    if several := sorted(name for name, at in known.items() if len(at) > 1):
        first = several[0]
        raise UserError(
            f"{printable(path)} names {printable(first)}, which {data.name} has in "
            f"{len(known[first])} folders; write each name with its folder (class/name)."
        )
    chosen = {i for at in known.values() for i in at}
    index = range(len(data.train.names)) if train.index is None else train.index.tolist()
    rows = [row for row, i in enumerate(index) if i in chosen]
    if not rows:
        raise UserError(
            f"{printable(path)} names no image of {data.name} that can be read; give the lists "
            "made for this dataset or remove the file."
        )
    return torch.tensor(rows)


def _places(names: Sequence[str]) -> dict[str, list[int]]:
    """Positions of the images that a list may mean by a name; a full name means one alone."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(PurePosixPath(name).name, []).append(i)
    return places | {name: [i] for i, name in enumerate(names)}


def stratified(y: Tensor, fraction: float, seed: int) -> Tensor:
    """Positions of `fraction` of every class (at least one image), ascending, int64.

    A function of the labels and the seed alone: the same list for every model. Lists are nested:
    a smaller fraction is a subset of a larger one.
    """
    import torch

    labels = y.numpy()
    chosen = []
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        order = np.random.default_rng([seed, int(c)]).permutation(members)
        chosen.append(order[: max(1, round(fraction * len(members)))])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))
