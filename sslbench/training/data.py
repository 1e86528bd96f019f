"""The images that a recipe trains on."""

from __future__ import annotations

from sslbench.data.dataset import ImageDataset
from sslbench.data.images import open_dataset
from sslbench.data.subsets import training_parts
from sslbench.recipes.recipe import DataConfig


def open_training(data: DataConfig, whole: ImageDataset | None = None) -> ImageDataset:
    """Open the part of `data.source` that is trained on; UserError if there is no such part.

    whole: the dataset of that source, where it is open already.
    """
    whole = whole or open_dataset(data.source, data.split)
    return training_parts(whole, data.share, data.held_out)[0]
