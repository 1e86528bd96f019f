"""Multi-crop from JPEG files to batches, against the official pipeline on PIL images.

The official one ends in normalised floats, so ours is normalised too; where colours are left to a
GPU, so is that.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sslbench.data.images import open_dataset
from sslbench.data.loader import ViewDataset, collate, make_loader
from sslbench.data.rng import sample_rng
from sslbench.data.views import MaskConfig, MultiCrop, MultiCropConfig
from tests.data import official, pil
from tests.speed.race import Race

IMAGES, BATCH, PATCH = 64, 16, 16
WORK = f"{IMAGES} JPEG files of 500 x 375 pixels: 2 x 224 + 10 x 96 crops and 2 block masks each"
VIEWS = MultiCrop(MultiCropConfig(), PATCH, MaskConfig())


def colours_on_the_cpu() -> Race:
    dataset = open_dataset(written())

    def ours() -> None:
        options = {"mean": official.MEAN, "std": official.STD}
        for batch, _ in make_loader(dataset, VIEWS, 0, BATCH, IMAGES // BATCH, **options):
            for name in batch.crops:
                batch.images(name)

    return race("multi_crop", WORK, ours, dataset.root, 3.5)


def colours_left_to_the_device() -> Race:
    dataset = open_dataset(written())
    samples = ViewDataset(dataset, VIEWS.deferred(), 0)

    def ours() -> None:
        for start in range(0, IMAGES, BATCH):
            collate([samples[0, index, 0] for index in range(start, start + BATCH)])

    work = f"{WORK}, what workers do if flips and colours are left to the device"
    return race("multi_crop_device", work, ours, dataset.root, 6.0)


def race(name: str, work: str, ours: Callable[[], None], folder: Path, wanted: float) -> Race:
    files = sorted(folder.iterdir())
    views, draws = official.MultiCrop(), official.Draws(0)

    def theirs() -> None:
        for start in range(0, IMAGES, BATCH):
            chunk = files[start : start + BATCH]
            samples = [(views(opened(file)), masks(draws)) for file in chunk]
            for crops in zip(*(crops for crops, _ in samples), strict=True):
                torch.stack(crops)

    least = checked(files)
    same = f"crops equal to PIL's for equal draws, half of them above {least:.0f} dB"
    return Race(
        name, work, ours, {"official": theirs}, {"official": wanted}, "images", IMAGES, same
    )


def written() -> Path:
    """A folder of photo-like JPEG files, of about 70 kB each."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for number in range(IMAGES):
        image = pil.photo(500, 375, seed=number, noise=18)
        image.save(folder / f"{number:02d}.jpg", quality=90)
    return folder


def opened(file: Path) -> Image.Image:
    """As torchvision's `pil_loader`."""
    with file.open("rb") as stream:
        return Image.open(stream).convert("RGB")


def masks(draws: official.Draws) -> list[Tensor]:
    """Of the two global crops; the official loop masks the local ones too, for nothing."""
    side = 224 // PATCH
    targets = (official.ratio(draws, MaskConfig().ratios) * side**2 for _ in range(2))
    return [torch.from_numpy(official.block_mask(side, side, high, draws)) for high in targets]


def checked(files: list[Path]) -> float:
    """The median ratio to noise of our crops against PIL's; raises if it is low."""
    ratios = []
    for index, file in enumerate(files[:8]):
        rng, draws = sample_rng(0, 0, index), sample_rng(0, 0, index)
        sample = VIEWS(opened(file), rng, 0)
        kinds = [(crop, min(k, 1)) for k, crop in enumerate(sample.crops["global"])]
        for crop, kind in [*kinds, *((crop, 2) for crop in sample.crops["local"])]:
            theirs = np.asarray(pil.view(opened(file), VIEWS.config, kind, draws))
            ratios.append(pil.decibels(crop, theirs.transpose(2, 0, 1)))
    if np.median(ratios) < 46:
        raise AssertionError(f"other crops than PIL's: {np.median(ratios):.1f} dB")
    return float(np.median(ratios))
