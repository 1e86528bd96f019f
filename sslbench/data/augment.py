"""The pixel operations of the papers' augmentations, with parameters from a numpy Generator.

Torchvision and PIL process the pixels exactly as in the official code; only the source of random
numbers differs. Images are PIL RGB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

Box = tuple[int, int, int, int]  # top, left, height, width in pixels

BICUBIC, LANCZOS = InterpolationMode.BICUBIC, InterpolationMode.LANCZOS
ASPECT = (3 / 4, 4 / 3)
TRIES = 10
BLUR_RADIUS = (0.1, 2.0)  # PIL's sigma in pixels (dino/utils.py:36-50)
SOLARIZE_THRESHOLD = 128


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(rng.random() < probability)


def random_box(image: Image.Image, scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """Draw the box of a random resized crop: area U(scale), aspect log-uniform in `ASPECT`.

    After `TRIES` failures, return the largest centred box of allowed aspect (torchvision's rule).
    """
    width, height = image.size
    log_low, log_high = math.log(ASPECT[0]), math.log(ASPECT[1])
    for _ in range(TRIES):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(log_low, log_high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return int(top), int(left), h, w
    w = min(width, round(height * ASPECT[1]))
    h = min(height, round(width / ASPECT[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def crop(
    image: Image.Image, box: Box, size: int, interpolation: InterpolationMode = BICUBIC
) -> Image.Image:
    """Return the box of `image`, resized to (size, size) pixels."""
    return TF.resized_crop(image, *box, [size, size], interpolation)


def flip(image: Image.Image, probability: float, rng: np.random.Generator) -> Image.Image:
    """Mirror the image left to right with the given probability."""
    return TF.hflip(image) if chance(rng, probability) else image


@dataclass(frozen=True)
class ColourJitter:
    """Torchvision's ColorJitter: the active operations in random order.

    Factors are U(max(0, 1 - x), 1 + x); hue shifts are U(-hue, hue) turns of the colour circle.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        operations = (
            (TF.adjust_brightness, max(0.0, 1 - self.brightness), 1 + self.brightness),
            (TF.adjust_contrast, max(0.0, 1 - self.contrast), 1 + self.contrast),
            (TF.adjust_saturation, max(0.0, 1 - self.saturation), 1 + self.saturation),
            (TF.adjust_hue, -self.hue, self.hue),
        )
        for k in rng.permutation(len(operations)):
            change, low, high = operations[k]
            if low < high:
                image = change(image, rng.uniform(low, high))
        return image


def grayscale(image: Image.Image) -> Image.Image:
    """Return the luminance in three equal channels."""
    return TF.rgb_to_grayscale(image, num_output_channels=3)


def blur(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur by a Gaussian of random radius."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_RADIUS)))


def solarize(image: Image.Image) -> Image.Image:
    """Invert all values from the threshold up."""
    return TF.solarize(image, SOLARIZE_THRESHOLD)


def to_array(image: Image.Image) -> np.ndarray:
    """Return uint8 (3, H, W), not necessarily contiguous."""
    return np.asarray(image).transpose(2, 0, 1)
