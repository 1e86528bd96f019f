"""Multi-crop from JPEG files to batches, against the official pipeline on PIL images and peers.

They end in normalised floats, so ours are normalised too; where colours are left to a GPU, so is
that.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sslbench.data.images import ImageDataset, open_dataset
from sslbench.data.loader import ViewDataset, collate, make_loader
from sslbench.data.reading import decode_array
from sslbench.data.recolour import recoloured
from sslbench.data.rng import sample_rng
from sslbench.data.views import MaskConfig, MultiCrop, MultiCropConfig
from tests.data import official, pil
from tests.speed.race import Race

IMAGES, BATCH, PATCH = 64, 16, 16
WORK = f"{IMAGES} JPEG files of 500 x 375 pixels: 2 x 224 + 10 x 96 crops and 2 block masks each"
VIEWS = MultiCrop(MultiCropConfig(), PATCH, MaskConfig())


def colours_on_the_cpu() -> Race:
    dataset = open_dataset(written())
    return race("multi-crop", WORK, lambda: read(dataset, VIEWS), dataset.root, VIEWS, 3.5)


def read(dataset: ImageDataset, views: MultiCrop) -> None:
    """Makes the batches of one epoch, with normalised crops."""
    steps, options = len(dataset) // BATCH, {"mean": official.MEAN, "std": official.STD}
    for batch, _ in make_loader(dataset, views, 0, BATCH, steps, **options):
        for name in batch.crops:
            batch.images(name)


def colours_left_to_the_device() -> Race:
    dataset = open_dataset(written())
    views = VIEWS.deferred()
    samples = ViewDataset(dataset, views, 0)

    def ours() -> None:
        for start in range(0, IMAGES, BATCH):
            collate([samples[0, index, 0] for index in range(start, start + BATCH)])

    work = f"{WORK}, what workers do if flips and colours are left to the device"
    return race("multi-crop-device", work, ours, dataset.root, views, 6.0)


def race(
    name: str,
    work: str,
    ours: Callable[[], None],
    folder: Path,
    views: MultiCrop,
    wanted: float,
) -> Race:
    files = sorted(folder.iterdir())
    draws = official.Draws(0)

    def batches(pipeline: Callable[[Path], list[Tensor]]) -> Callable[[], None]:
        def theirs() -> None:
            for start in range(0, IMAGES, BATCH):
                chunk = files[start : start + BATCH]
                samples = [(pipeline(file), masks(draws)) for file in chunk]
                for crops in zip(*(crops for crops, _ in samples), strict=True):
                    torch.stack(crops)

        return theirs

    pipelines = {
        "official": of_pil(official.MultiCrop()),
        "lightly": of_pil(lightly()),
        "albumentations": albumentations(),
    }
    return Race(
        name,
        work,
        ours,
        {rival: batches(pipeline) for rival, pipeline in pipelines.items()},
        {"official": wanted},
        "images",
        IMAGES,
        f"crops equal to PIL's for equal draws, half of them above {checked(files, views):.0f} dB",
        {"albumentations": "crops without antialiasing: another distribution"},
    )


def of_pil(views: Callable[[Image.Image], list[Tensor]]) -> Callable[[Path], list[Tensor]]:
    return lambda file: views(opened(file))


def lightly() -> Callable[[Image.Image], list[Tensor]]:
    from lightly.transforms.dino_transform import DINOTransform

    scales = {"global_crop_scale": (0.25, 1.0), "local_crop_scale": (0.05, 0.25)}
    return DINOTransform(n_local_views=10, **scales)


def albumentations() -> Callable[[Path], list[Tensor]]:
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    def view(size: int, scale: tuple[float, float], blur: float, solarise: float) -> A.Compose:
        bicubic = cv2.INTER_CUBIC
        return A.Compose(
            [
                A.RandomResizedCrop((size, size), scale=scale, interpolation=bicubic),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1), p=0.8),
                A.ToGray(p=0.2),
                A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
                A.Solarize(threshold_range=(0.5, 0.5), p=solarise),
                A.Normalize(official.MEAN, official.STD),
                ToTensorV2(),
            ]
        )

    first, second = view(224, (0.25, 1.0), 1.0, 0.0), view(224, (0.25, 1.0), 0.1, 0.2)
    views = [first, second, *[view(96, (0.05, 0.25), 0.5, 0.0)] * 10]

    def crops(file: Path) -> list[Tensor]:
        pixels = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        return [view(image=pixels)["image"] for view in views]

    return crops


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


def checked(files: list[Path], views: MultiCrop) -> float:
    """The median ratio to noise of our crops against PIL's; raises if it is low."""
    ratios = []
    for index, file in enumerate(files[:8]):
        rng, draws = sample_rng(0, 0, index), sample_rng(0, 0, index)
        sample = views(decode_array(file), rng, 0)
        for name, crops in sample.crops.items():
            if name in sample.looks:  # what the device would do
                rows = torch.from_numpy(sample.looks[name])
                crops = recoloured(torch.from_numpy(crops), rows).numpy()
            for k, crop in enumerate(crops):
                kind = 2 if name == "local" else min(k, 1)
                theirs = np.asarray(pil.view(opened(file), views.config, kind, draws))
                ratios.append(pil.decibels(crop, theirs.transpose(2, 0, 1)))
    if np.median(ratios) < 46:
        raise AssertionError(f"other crops than PIL's: {np.median(ratios):.1f} dB")
    return float(np.median(ratios))
