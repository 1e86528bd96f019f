"""Random crops, with parameters from a numpy Generator."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from sslbench.data.colours import chance, uniform

Box = tuple[int, int, int, int]  # top, left, height, width in pixels

BICUBIC, LANCZOS = InterpolationMode.BICUBIC, InterpolationMode.LANCZOS
ASPECT = (3 / 4, 4 / 3)
TRIES = 10


def random_box(size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """Draw the box of a random resized crop: area U(scale), aspect log-uniform in `ASPECT`.

    size: width and height of the image in pixels. After `TRIES` failures, return the largest
    centred box of allowed aspect (torchvision's rule).
    """
    width, height = size
    log_aspect = math.log(ASPECT[0]), math.log(ASPECT[1])
    for _ in range(TRIES):
        area = width * height * uniform(rng, *scale)
        aspect = math.exp(uniform(rng, *log_aspect))
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
    """Return the box of `image`, resized to (size, size) pixels by PIL."""
    return TF.resized_crop(image, *box, [size, size], interpolation)


def crop_pixels(pixels: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Return the box of uint8 (H, W, 3), resized to (size, size, 3) bicubic, antialiased.

    A fifth of PIL's cost. As Pillow did until its version 12, with which the papers' models were
    trained, it makes the horizontal pass first: then 0.4 % of the values differ by 1, at most by 2.
    Pillow 13 makes the vertical pass first for some boxes, so that hard edges differ by up to 30.
    """
    top, left, height, width = box
    part = torch.from_numpy(pixels[top : top + height, left : left + width].copy())
    if (height, width) == (size, size):
        return part.numpy()
    planes = part[None].permute(0, 3, 1, 2)  # channels last, which has a faster kernel
    planes = F.interpolate(planes, (size, size), mode="bicubic", antialias=True)
    return planes.permute(0, 2, 3, 1)[0].numpy()


def flip(image: Image.Image, probability: float, rng: np.random.Generator) -> Image.Image:
    """Mirror the image left to right with the given probability."""
    return TF.hflip(image) if chance(rng, probability) else image


def to_array(image: Image.Image) -> np.ndarray:
    """Return uint8 (3, H, W), not necessarily contiguous."""
    return np.asarray(image).transpose(2, 0, 1)
