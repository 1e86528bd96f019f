"""The same views by PIL and torchvision: what the faster operations are compared with."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter
from torchvision.transforms import functional as TF

from sslbench.data import augment
from sslbench.data.colours import Look
from sslbench.data.views import MultiCropConfig

ADJUST = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)


def photo(width: int = 320, height: int = 240, seed: int = 0, noise: int = 12) -> Image.Image:
    """Smooth colours of all brightnesses with some grain."""
    rng = np.random.default_rng(seed)
    base = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    smooth = np.asarray(base.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    grain = rng.integers(-noise, noise + 1, smooth.shape)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def decibels(x: np.ndarray, y: np.ndarray) -> float:
    """The peak signal-to-noise ratio of two uint8 images; 100 where they are equal."""
    error = np.mean((np.asarray(x, dtype=float) - np.asarray(y, dtype=float)) ** 2)
    return 100.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def look(image: Image.Image, look: Look) -> Image.Image:
    """`look` applied by PIL."""
    if look.flip:
        image = TF.hflip(image)
    for change, factor in look.changes:
        image = ADJUST[change](image, factor)
    if look.grey:
        image = TF.rgb_to_grayscale(image, num_output_channels=3)
    if look.radius:
        image = image.filter(ImageFilter.GaussianBlur(look.radius))
    return TF.solarize(image, 128) if look.solarise else image


def view(
    image: Image.Image, c: MultiCropConfig, kind: int, rng: np.random.Generator
) -> Image.Image:
    """One crop of `MultiCrop`; kind 0 = first global, 1 = other globals, 2 = local."""
    size, scale = (c.local_size, c.local_scale) if kind == 2 else (c.global_size, c.global_scale)
    image = augment.crop(image, augment.random_box(image.size, scale, rng), size)
    flip, changes = rng.random() < c.flip, []
    if rng.random() < c.jitter:
        low = [max(0.0, 1 - x) for x in (c.brightness, c.contrast, c.saturation)]
        high = [1 + x for x in (c.brightness, c.contrast, c.saturation)]
        bounds = list(zip([*low, -c.hue], [*high, c.hue], strict=True))
        changes = [(k, rng.uniform(*bounds[k])) for k in rng.permutation(4)]
    grey = rng.random() < c.grayscale
    radius = rng.uniform(0.1, 2.0) if rng.random() < c.blur[kind] else 0.0
    return look(image, Look(flip, tuple(changes), grey, radius, rng.random() < c.solarize[kind]))
