"""Evaluates a tokenizer: reconstruction error and codebook usage on held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sslbench.checkpoints.modules import load_module
from sslbench.checkpoints.runs import read_card
from sslbench.data.images import BrokenImage, ImageDataset, open_dataset
from sslbench.errors import UserError
from sslbench.evaluation.codes import TokenCrop, token_crop
from sslbench.plugins import TOKENIZERS
from sslbench.storage.files import write_atomically

IMAGES = 1000
SHEET, COLUMNS = 16, 8  # images drawn, and images per row


@torch.inference_mode()
def evaluate_tokenizer(folder: Path) -> str:
    """Return a sentence with the mean squared error per pixel value in [0, 1] and the used codes.

    Measured with hard codes on up to 1,000 validation images, or training images if the dataset has
    no validation split; the sentence names the split.
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
            continue  # the sentence has the number of images read
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
        ids = tokenizer.encode(pixels)
        errors.append(float((tokenizer.decode(ids) - pixels).square().mean()))
        used[ids.flatten().numpy()] = True
    return (
        f"tokenizer {folder}: mean squared error {np.mean(errors):.4f} and {used.sum()} of "
        f"{len(used)} codes in use on {len(errors)} {split} images of {images.name}"
    )


@torch.inference_mode()
def draw_reconstructions(tokenizer: Any, dataset: ImageDataset, size: int, out: Path) -> str:
    """Write a PNG with rows of the first readable images, each above a row of reconstructions.

    Returns a sentence with the mean squared error per pixel value in [0, 1]. Raises UserError if
    the tokenizer cannot decode.
    """
    crop = token_crop(tokenizer, dataset, size)
    originals = _first(dataset, crop)
    restored = torch.cat([tokenizer.decode(tokenizer.encode(x[None])) for x in originals])
    rows = []
    for start in range(0, len(originals), COLUMNS):
        for images in (originals, restored):
            row = torch.ones(3, size, COLUMNS * size)
            joined = torch.cat(list(images[start : start + COLUMNS]), dim=2)
            row[:, :, : joined.shape[2]] = joined
            rows.append(row)
    pixels = (torch.cat(rows, dim=1) * 255).round().byte().permute(1, 2, 0).numpy()
    write_atomically(out, lambda path: Image.fromarray(pixels).save(path, "PNG"))
    error = float((restored - originals).square().mean())
    return f"{out}: {len(originals)} images of {dataset.name}, mean squared error {error:.4f}"


def _first(dataset: ImageDataset, crop: TokenCrop) -> Tensor:
    """Return pixels in [0, 1], (N, 3, size, size), of the first readable images."""
    images: list[Tensor] = []
    for index in range(len(dataset)):
        try:
            images.append(crop(dataset.image(index)) / 255)
        except BrokenImage:
            continue
        if len(images) == SHEET:
            break
    if not images:
        raise UserError(f"no image of {dataset.name} can be decoded; repair or remove the files.")
    return torch.stack(images)
