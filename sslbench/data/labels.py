"""Checks that a dataset has the labels that training or an evaluation needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sslbench.errors import UserError

if TYPE_CHECKING:
    from sslbench.data.dataset import ImageDataset


def need_labels(dataset: ImageDataset, purpose: str = "training with labels") -> np.ndarray:
    """Return the labels of a dataset, int64 (N,); UserError if it has none.

    purpose: what needs them, as the subject of a sentence.
    """
    if dataset.labels is None:
        reason = f", for {dataset.unlabelled}" if dataset.unlabelled else ""
        raise UserError(
            f"{dataset.name} has no labels in its {dataset.split} split, which {purpose} needs"
            f"{reason}; give a folder with one sub-folder per class."
        )
    return dataset.labels


def check_classes(train: ImageDataset, test: ImageDataset) -> None:
    """Raise UserError where nothing can be learnt from `train` that `test` could show.

    That is where either has no labels, `train` has images of one class only, or a class of `test`
    has no image in `train`.
    """
    present = np.unique(need_labels(train))
    missing = np.setdiff1d(need_labels(test), present)
    if len(present) < 2:
        raise UserError(
            f"{train.name} has images of one class only, {train.classes[present[0]]}, in its "
            f"{train.split} split; give images of two or more classes."
        )
    if len(missing):
        raise UserError(
            f"{train.name} has no {train.split} images of {len(missing)} of the classes that are "
            f"evaluated (first: {train.classes[missing[0]]}); add some, or remove these classes "
            f"from its {test.split} split."
        )
