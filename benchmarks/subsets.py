"""Which images keep their label in semi-supervised classification: a list file's, or drawn here.

The papers' lists are SimCLRv2's `imagenet_subsets/1percent.txt` (12,811 names) and `10percent.txt`
(128,116), one file name a line.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from sslbench.benchmark import Features, Splits
from sslbench.data.dataset import FileImages
from sslbench.data.reading import printable, read_lines
from sslbench.errors import UserError

FOLDER = "subsets"


def find_list(data: Splits, fraction: float) -> Path | None:
    """`{1,10}percent.txt` in the folder of a dataset or in its folder `subsets`, if it is there."""
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

    An image that could not be read has no row; a name that the dataset does not have is a
    UserError.
    """
    wanted = names_in(path)
    names = [{name, PurePosixPath(name).name} for name in data.train.names]
    if unknown := sorted(wanted.difference(*names)):
        raise UserError(
            f"{printable(path)} names {len(unknown)} of {len(wanted)} images that {data.name} does "
            f"not have (first: {printable(unknown[0])}); give the lists made for this dataset or "
            "remove the file."
        )
    index = range(len(names)) if train.index is None else train.index.tolist()
    return torch.tensor([row for row, i in enumerate(index) if names[i] & wanted])


def stratified(y: Tensor, fraction: float, seed: int) -> Tensor:
    """Positions of `fraction` of every class (at least one image), ascending, int64.

    A function of the labels and the seed alone: the same list for every model. Lists are nested:
    a smaller fraction is a subset of a larger one.
    """
    labels = y.numpy()
    chosen = []
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        order = np.random.default_rng([seed, int(c)]).permutation(members)
        chosen.append(order[: max(1, round(fraction * len(members)))])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))
