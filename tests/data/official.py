"""The official views and masks, written from their descriptions on PIL and torchvision.

Slow and plain: what sslbench draws and changes is compared with it, and raced against it. Sources:
DataAugmentationDINO, `dino/main_dino.py:419-464`; its blur and solarisation, `dino/utils.py:36-70`;
iBOT's scales and masks, `ibot/main_ibot.py:574-621` and `ibot/loader.py:33-115`.
"""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Blur:
    """PIL's Gaussian blur of a radius U(.1, 2), with a probability."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, image: Image.Image) -> Image.Image:
        if random.random() > self.probability:
            return image
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class Solarise:
    """Inverts the values from 128 up, with a probability."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, image: Image.Image) -> Image.Image:
        return ImageOps.solarize(image) if random.random() < self.probability else image


class MultiCrop:
    """Two global crops of 224 and ten local ones of 96 pixels, float (3, H, W) each."""

    def __init__(self, locals_: int = 10) -> None:
        jitter = transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        colours = [
            transforms.RandomHorizontalFlip(p=0.5),
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(p=0.2),
        ]
        end = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]

        def crop(size: int, scale: tuple[float, float]) -> transforms.RandomResizedCrop:
            bicubic = transforms.InterpolationMode.BICUBIC
            return transforms.RandomResizedCrop(size, scale=scale, interpolation=bicubic)

        large, small = (224, (0.25, 1.0)), (96, (0.05, 0.25))
        self.first = transforms.Compose([crop(*large), *colours, Blur(1.0), *end])
        self.second = transforms.Compose([crop(*large), *colours, Blur(0.1), Solarise(0.2), *end])
        self.local = transforms.Compose([crop(*small), *colours, Blur(0.5), *end])
        self.locals = locals_

    def __call__(self, image: Image.Image) -> list[Tensor]:
        crops = [self.first(image), self.second(image)]
        return [*crops, *(self.local(image) for _ in range(self.locals))]


class Draws(random.Random):
    """Where the masks' random numbers come from; a test replays those of another generator."""

    def next_block(self) -> None:
        """Is called before the first try of each block."""


def ratio(draws: Draws, ratios: tuple[tuple[float, float], ...]) -> float:
    """The share of masked patches: one of the pairs' draws."""
    drawn = []
    for mean, spread in ratios:
        drawn.append(draws.uniform(mean - spread, mean + spread) if spread > 0 else mean)
    return draws.choice(drawn)


def block_mask(rows: int, columns: int, high: float, draws: Draws) -> np.ndarray:
    """Blocks over at most `high` patches, bool (rows, columns), set patch by patch."""
    mask = np.zeros((rows, columns), dtype=bool)
    low, log_aspect = (min(rows, columns) // 3) ** 2, (math.log(0.3), math.log(1 / 0.3))
    count = 0
    while count < high:
        most, added = high - count, 0
        draws.next_block()
        for _ in range(10):
            area = draws.uniform(low, most)
            aspect = math.exp(draws.uniform(*log_aspect))
            height = round(math.sqrt(area * aspect))
            width = round(math.sqrt(area / aspect))
            if width < columns and height < rows:
                top = draws.randint(0, rows - height)
                left = draws.randint(0, columns - width)
                masked = mask[top : top + height, left : left + width].sum()
                if 0 < height * width - masked <= most:
                    for i in range(top, top + height):
                        for j in range(left, left + width):
                            if mask[i, j] == 0:
                                mask[i, j] = 1
                                added += 1
            if added > 0:
                break
        if added == 0:
            break
        count += added
    return mask
