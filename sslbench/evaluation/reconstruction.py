"""How good a tokenizer is: reconstruction error and codebook usage on images it was not fed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sslbench.backbones.load import load_module, read_card
from sslbench.data.images import BrokenImage, open_dataset
from sslbench.errors import UserError
from sslbench.plugins import TOKENIZERS

IMAGES = 1000


@torch.inference_mode()
def judge_tokenizer(folder: Path) -> str:
    """A sentence with the mean squared error per pixel value in [0, 1] and the codes in use.

    Measured with hard codes on up to 1,000 validation images, or training images where a dataset
    has no validation split (said so).
    """
    tokenizer: Any = load_module(folder, TOKENIZERS)
    recipe = read_card(folder)["recipe"]
    size = recipe["method"]["views"]["size"]
    try:
        split, images = "validation", open_dataset(recipe["data"]["source"], "validation")
    except UserError:
        split, images = "train", open_dataset(recipe["data"]["source"], "train")
    errors, used = [], np.zeros(tokenizer.num_codes, dtype=bool)
    for index in range(min(IMAGES, len(images))):
        try:
            image = images.image(index).resize((size, size))
        except BrokenImage:
            continue  # the count says so
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
        ids = tokenizer.encode(pixels)
        errors.append(float((tokenizer.decode(ids) - pixels).square().mean()))
        used[ids.flatten().numpy()] = True
    return (
        f"tokenizer {folder}: mean squared error {np.mean(errors):.4f} and {used.sum()} of "
        f"{len(used)} codes in use on {len(errors)} {split} images of {images.name}"
    )
