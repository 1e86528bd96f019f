"""The images that a recipe trains on."""

from __future__ import annotations

from sslbench.data.dataset import ImageDataset
from sslbench.data.images import open_dataset
from sslbench.data.subsets import training_parts
from sslbench.recipes.recipe import DataConfig


def open_training(data: DataConfig) -> ImageDataset:
    """Open the part of `data.source` that is trained on; UserError if there is no such part."""
    dataset = open_dataset(data.source, data.split)
    return training_parts(dataset, data.share, data.held_out)[0]
