"""The view of an image that a classifier is trained on: crop, flip, RandAugment, random erasing.

timm's `create_transform` for training, which BEiT, iBOT and DeiT use (beit/datasets.py:148-163,
`build_transform` of ibot/evaluation/classification_layer_decay/run_class_finetuning.py and of
deit/datasets.py). timm makes the changes; what is random comes from the image's generator.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode

from sslbench.data import augment
from sslbench.data.colours import ColourJitter, changed
from sslbench.errors import UserError
from sslbench.method import Sample
from sslbench.settings import Probability, Scale, Side, setting

Interpolation = Literal["bicubic", "bilinear"]
Level = Annotated[int, setting("of a colour", ge=0, le=255)]
TRANSLATION = 0.45  # largest shift by RandAugment, relative to the side
LARGEST_SEED = 2**32  # of numpy's global generator


@dataclass(frozen=True)
class RecognitionConfig:
    """Defaults are BEiT's, iBOT's and DeiT's at 224 pixels; RandAugment takes the jitter's place.

    fill: what RandAugment fills empty corners with, 255 times the mean of the model's inputs.
    """

    size: Annotated[Side, setting("side of the crop", "pixels")] = 224
    scale: Annotated[Scale, setting("smallest and largest share of the area")] = (0.08, 1.0)
    interpolation: Annotated[Interpolation, setting("how training crops are resized")] = "bicubic"
    flip: Annotated[Probability, setting("probability of a horizontal flip")] = 0.5
    randaugment: Annotated[
        str, setting("RandAugment as timm spells it; empty: none", max_length=80)
    ] = "rand-m9-mstd0.5-inc1"
    fill: Annotated[
        tuple[Level, ...],
        setting("colour of what RandAugment uncovers", min_length=3, max_length=3),
    ] = (124, 116, 104)
    jitter: Annotated[
        float, setting("of brightness, contrast, saturation without RandAugment", ge=0, le=1)
    ] = 0.4
    erasing: Annotated[Probability, setting("probability that a rectangle becomes noise")] = 0.25
    test_interpolation: Annotated[
        Interpolation, setting("how images are resized for evaluation")
    ] = "bicubic"
    test_crop_ratio: Annotated[
        float,
        setting("side of the evaluated centre over that of the image, 0: the data's", ge=0, le=1),
    ] = 0.0

    def __post_init__(self) -> None:
        if self.randaugment:
            try:
                _randaugment(self.randaugment, self.size, tuple(self.fill), self.interpolation)
            except (ValueError, AssertionError, KeyError, IndexError) as error:
                raise ValueError(
                    f"randaugment={self.randaugment!r} is not spelt as timm does, e.g. "
                    "rand-m9-mstd0.5-inc1"
                ) from error


@dataclass(frozen=True)
class Recognition:
    """Draws the crop "image" (1, 3, H, W) and, with erasing, the mask "erased" (1, H, W) of it.

    The mask is filled with noise where the batch is: noise follows normalisation.
    """

    config: RecognitionConfig
    patch_size: int

    def __post_init__(self) -> None:
        if self.config.size % self.patch_size:
            raise UserError(
                f"the crop of {self.config.size} pixels is not a multiple of the patch size "
                f"{self.patch_size}; choose a multiple of it."
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator, epoch: int) -> Sample:
        c = self.config
        box = augment.random_box(image.size, c.scale, rng)
        view = augment.crop(image, box, c.size, InterpolationMode(c.interpolation))
        view = augment.flip(view, c.flip, rng)
        with drawing_from(rng):
            if c.randaugment:
                view = _randaugment(c.randaugment, c.size, tuple(c.fill), c.interpolation)(view)
            erased = _erased(c.erasing, c.size) if c.erasing else None
        pixels = np.asarray(view)
        if c.jitter and not c.randaugment:
            pixels = changed(pixels, ColourJitter(c.jitter, c.jitter, c.jitter, 0.0).draw(rng))
        crops = {"image": np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])}
        return Sample(crops, {} if erased is None else {"erased": erased[None]})


@contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """What timm draws from the global generators of Python and numpy depends on `rng` alone.

    Their states are as before afterwards.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (what timm draws from)
    random.seed(int(rng.integers(2**63)))
    np.random.seed(int(rng.integers(LARGEST_SEED)))  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@lru_cache
def _randaugment(text: str, size: int, fill: tuple[int, ...], interpolation: str) -> Any:
    """timm's RandAugment as `create_transform` builds it."""
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.transforms import str_to_pil_interp

    settings = {
        "translate_const": int(size * TRANSLATION),
        "img_mean": fill,
        "interpolation": str_to_pil_interp(interpolation),
    }
    transform = rand_augment_transform(text, settings)
    for operation in transform.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterized
    return transform


def _posterized(image: Image.Image, bits: int, **options: Any) -> Image.Image:
    """timm's `posterize`; an image that keeps no bit is black, as in Pillow before version 13."""
    from timm.data.auto_augment import posterize

    return posterize(image, bits, **options) if bits > 0 else Image.new(image.mode, image.size)


def _erased(probability: float, size: int) -> np.ndarray:
    """The rectangle that timm's RandomErasing takes, bool (size, size); usually none."""
    from timm.data.random_erasing import RandomErasing

    pixels = torch.ones(1, size, size)
    return (RandomErasing(probability, mode="const", device="cpu")(pixels)[0] == 0).numpy()
