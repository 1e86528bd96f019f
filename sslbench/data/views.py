"""The views of an image: multi-crop, BEiT's pair of image and tokenizer crop, and a plain crop.

Every view is called as `view(image, rng, epoch) -> Sample` with a PIL RGB image or its pixels,
uint8 (H, W, 3); the crops are C-contiguous uint8 (V, 3, H, W), the masks bool
(V, H / patch, W / patch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import cv2
import numpy as np
from PIL import Image

from sslbench.data import augment
from sslbench.data.colours import BLUR_RADIUS, ColourJitter, Look, chance, uniform
from sslbench.data.masks import CountMaskConfig, MaskConfig, Masking
from sslbench.errors import UserError
from sslbench.method import Sample
from sslbench.settings import Factor, Probability, Scale, Side, setting

Strength = Annotated[Factor, setting("largest relative change")]
Flip = Annotated[Probability, setting("probability of a horizontal flip")]
Kinds = tuple[Probability, Probability, Probability]  # first global, other global, local views

__all__ = [
    "CountMaskConfig",
    "MaskConfig",
    "MultiCrop",
    "MultiCropConfig",
    "PlainCrop",
    "PlainCropConfig",
    "TokenizerCrop",
    "TokenizerCropConfig",
]


def _planes(crops: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (H, W, 3) each -> (V, 3, H, W), C-contiguous."""
    height, width, channels = crops[0].shape
    planes = np.empty((len(crops), channels, height, width), dtype=np.uint8)
    for crop, out in zip(crops, planes, strict=True):
        cv2.split(crop, list(out))
    return planes


def _check_grid(name: str, size: int, patch_size: int) -> None:
    """Raise UserError unless the crop is a whole number of patches wide."""
    if size % patch_size:
        raise UserError(
            f"The {name} of {size} pixels is not a multiple of the patch size {patch_size}: "
            f"set e.g. {max(1, round(size / patch_size)) * patch_size}."
        )


@dataclass(frozen=True)
class MultiCropConfig:
    """DINO's and iBOT's views (dino/main_dino.py:419-464, ibot/main_ibot.py:574-621).

    The number of local crops and the scales are those of the released models.
    """

    global_size: Annotated[Side, setting("side of the global crops", "pixels")] = 224
    local_size: Annotated[Side, setting("side of the local crops", "pixels")] = 96
    global_crops: Annotated[int, setting("global crops of an image", ge=1, le=1000)] = 2
    local_crops: Annotated[int, setting("local crops of an image", ge=0, le=1000)] = 10
    global_scale: Annotated[Scale, setting("smallest and largest share of the area")] = (0.25, 1.0)
    local_scale: Annotated[Scale, setting("smallest and largest share of the area")] = (0.05, 0.25)
    flip: Flip = 0.5
    jitter: Annotated[Probability, setting("probability of the colour jitter")] = 0.8
    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.2
    hue: Annotated[float, setting("largest turn of the colour circle", ge=0, le=0.5)] = 0.1
    grayscale: Annotated[Probability, setting("probability of grey instead of colours")] = 0.2
    blur: Annotated[
        Kinds, setting("probability in the first global view, the other ones, the local ones")
    ] = (1.0, 0.1, 0.5)
    solarize: Annotated[
        Kinds, setting("probability in the first global view, the other ones, the local ones")
    ] = (0.0, 0.2, 0.0)

    @property
    def relative_area(self) -> float:
        """Pixels of all crops over those of one global crop; 3.84 by default (iBOT App. B)."""
        area = self.global_crops * self.global_size**2 + self.local_crops * self.local_size**2
        return area / self.global_size**2

    def patches(self, patch_size: int) -> int:
        """Patches of all crops of one image."""
        sides = [(self.global_crops, self.global_size), (self.local_crops, self.local_size)]
        return sum(crops * (side // patch_size) ** 2 for crops, side in sides)


@dataclass(frozen=True)
class MultiCrop:
    """Draws crops "global" (G, 3, H, W) and "local" (L, 3, h, w), and masks "global" if configured.

    "local" is absent if there are no local crops. later: flips and colours are drawn all the same,
    but left to `recolour.recoloured`.
    """

    config: MultiCropConfig
    patch_size: int
    mask: Masking | None = None
    later: bool = False
    takes_arrays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_grid("global crop", self.config.global_size, self.patch_size)
        if self.config.local_crops:
            _check_grid("local crop", self.config.local_size, self.patch_size)

    def __call__(
        self, image: Image.Image | np.ndarray, rng: np.random.Generator, epoch: int
    ) -> Sample:
        config, pixels = self.config, np.asarray(image)
        kinds = {"global": [min(k, 1) for k in range(config.global_crops)]}
        if config.local_crops:
            kinds["local"] = [2] * config.local_crops
        crops, looks, masks = {}, {}, {}
        for name, of_crops in kinds.items():
            views = [self._view(pixels, kind, rng) for kind in of_crops]
            if self.later:
                crops[name] = _planes([crop for crop, _ in views])
                looks[name] = np.stack([look.row() for _, look in views])
            else:
                crops[name] = _planes([look(crop) for crop, look in views])
        if self.mask is not None:
            # drawn last, so that methods with and without masks see the same crops
            side = config.global_size // self.patch_size
            masks["global"] = self.mask.draw((side, side), config.global_crops, rng, epoch)
        return Sample(crops, masks, looks)

    def deferred(self) -> MultiCrop:
        """The same views with flips and colours left for later."""
        return replace(self, later=True)

    def _view(
        self, pixels: np.ndarray, kind: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, Look]:
        """Draw one crop and its look; kind 0 = first global, 1 = other globals, 2 = local."""
        c = self.config
        size, scale = (
            (c.local_size, c.local_scale) if kind == 2 else (c.global_size, c.global_scale)
        )
        box = augment.random_box((pixels.shape[1], pixels.shape[0]), scale, rng)
        return augment.crop_pixels(pixels, box, size), self._look(kind, rng)

    def _look(self, kind: int, rng: np.random.Generator) -> Look:
        c = self.config
        jitter = ColourJitter(c.brightness, c.contrast, c.saturation, c.hue)
        return Look(
            flip=chance(rng, c.flip),
            changes=jitter.draw(rng) if chance(rng, c.jitter) else (),
            grey=chance(rng, c.grayscale),
            radius=uniform(rng, *BLUR_RADIUS) if chance(rng, c.blur[kind]) else 0.0,
            solarise=chance(rng, c.solarize[kind]),
        )


@dataclass(frozen=True)
class TokenizerCropConfig:
    """BEiT's view (beit/datasets.py:33-66); every image is jittered before it is cropped."""

    size: Annotated[Side, setting("side of the backbone's crop", "pixels")] = 224
    token_size: Annotated[Side, setting("side of the tokenizer's crop", "pixels")] = 112
    scale: Annotated[Scale, setting("smallest and largest share of the area")] = (0.08, 1.0)
    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.4
    flip: Flip = 0.5


@dataclass(frozen=True)
class TokenizerCrop:
    """Draws crops "image" (1, 3, H, W) and "tokenizer" (1, 3, h, w) of one box, and masks "image".

    Both are resampled from the jittered and flipped source, "image" bicubic and "tokenizer" by
    Lanczos, never one from the other (beit/transforms.py:149-166).
    """

    config: TokenizerCropConfig
    patch_size: int
    mask: Masking | None = None
    takes_arrays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_grid("crop", self.config.size, self.patch_size)

    def __call__(
        self, image: Image.Image | np.ndarray, rng: np.random.Generator, epoch: int
    ) -> Sample:
        c, pixels = self.config, np.asarray(image)
        changes = ColourJitter(c.brightness, c.contrast, c.saturation, hue=0.0).draw(rng)
        pixels = Look(changes=changes, flip=chance(rng, c.flip))(pixels)
        box = augment.random_box((pixels.shape[1], pixels.shape[0]), c.scale, rng)
        tokens = augment.crop(Image.fromarray(pixels), box, c.token_size, augment.LANCZOS)
        crops = {
            "image": _planes([augment.crop_pixels(pixels, box, c.size)]),
            "tokenizer": _planes([np.asarray(tokens)]),
        }
        if self.mask is None:
            return Sample(crops)
        side = c.size // self.patch_size
        return Sample(crops, {"image": self.mask.draw((side, side), 1, rng, epoch)})


@dataclass(frozen=True)
class PlainCropConfig:
    """A random resized crop and a flip."""

    size: Annotated[Side, setting("side of the crop", "pixels")] = 224
    scale: Annotated[Scale, setting("smallest and largest share of the area")] = (0.08, 1.0)
    flip: Flip = 0.5


@dataclass(frozen=True)
class PlainCrop:
    """Draws the crop "image" (1, 3, H, W), bicubic."""

    config: PlainCropConfig
    takes_arrays: ClassVar[bool] = True

    def __call__(
        self, image: Image.Image | np.ndarray, rng: np.random.Generator, epoch: int
    ) -> Sample:
        c, pixels = self.config, np.asarray(image)
        box = augment.random_box((pixels.shape[1], pixels.shape[0]), c.scale, rng)
        look = Look(flip=chance(rng, c.flip))
        return Sample({"image": _planes([look(augment.crop_pixels(pixels, box, c.size))])})
