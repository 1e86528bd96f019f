"""How an image is shown to a model that is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeGuard

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from sslbench.data.dataset import ImageDataset
from sslbench.data.reading import BrokenImage, upright_rgb
from sslbench.errors import UserError
from sslbench.system.printing import printable


class Viewer(Protocol):
    """What a model says of the images that it was trained on."""

    @property
    def image_size(self) -> int: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def interpolation(self) -> Literal["bicubic", "bilinear"]: ...
    @property
    def crop_ratio(self) -> float | None: ...


@dataclass(frozen=True)
class EvalTransform:
    """Shorter side to int(size / crop_ratio), then the centre crop of size x size.

    224 px and .875 give the papers' Resize(256) + CenterCrop(224); 384 px and .875 give 438, as
    `deit/datasets.py` and timm round. mean and std are the model's own. Source:
    `dino/eval_knn.py:30-60`, bicubic, as BEiT's fine-tuning (`beit/datasets.py:163`);
    iBOT's is bilinear (`ibot/evaluation/classification_layer_decay/run_class_finetuning.py:288`).
    """

    size: int
    crop_ratio: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    @classmethod
    def of(cls, model: Viewer, dataset: ImageDataset) -> EvalTransform:
        """How the images of `dataset` are shown to `model`."""
        ratio = model.crop_ratio or dataset.crop_ratio
        statistics = (tuple(model.mean), tuple(model.std))
        return cls(model.image_size, ratio, *statistics, model.interpolation)

    @property
    def side(self) -> int:
        """The shorter side in pixels before the crop."""
        return int(self.size / self.crop_ratio)

    @property
    def later(self) -> dict[str, int]:
        """The side, where it is another than that of the first versions, which rounded to it."""
        return {} if self.side == round(self.size / self.crop_ratio) else {"side": self.side}

    def __call__(self, image: Image.Image) -> Tensor:
        """PIL RGB -> uint8 (3, size, size)."""
        if min(image.size) != self.side:
            image = F.resize(image, [self.side], InterpolationMode(self.interpolation))
        if image.size != (self.size, self.size):
            image = F.center_crop(image, [self.size, self.size])
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def settings(self) -> dict[str, Any]:
        """Return the settings by name; bicubic, once the only interpolation, is left out."""
        values = asdict(self) | self.later
        if self.interpolation == "bicubic":
            del values["interpolation"]
        return values

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> float32, on the pixels' device."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std


@dataclass(frozen=True)
class ModelTransform(EvalTransform):
    """`EvalTransform` of any image that Pillow has opened, normalised: float32 (3, size, size).

    Its pixels are those that `decode` reads from its file; the image itself stays as it is. Raises
    UserError for what is no such image or cannot be read, and for pixels whose black and white
    nothing defines.
    """

    def __call__(self, image: Image.Image) -> Tensor:
        if not _is_image(image) or not all(image.size):
            raise UserError(f"a transform takes a PIL image with pixels, not {_in_words(image)}.")
        info = dict(image.info)
        try:
            upright = upright_rgb(image, "the image")
        except BrokenImage as error:
            raise UserError(f"{error}.") from error
        except Exception as error:  # decoders raise almost anything on damaged bytes
            reason = printable(f"{type(error).__name__}: {error}")
            raise UserError(f"the image cannot be read, {reason}.") from error
        finally:
            image.info = info
        return self.normalise(super().__call__(upright)[None])[0]

    def batch(self, images: Tensor | Image.Image | Sequence[Image.Image]) -> Tensor:
        """Images of Pillow as one float batch (B, 3, size, size); a batch (B, 3, H, W) as it is.

        Raises UserError for anything else.
        """
        several = [images] if isinstance(images, Image.Image) else images
        if isinstance(several, Tensor) and several.is_floating_point():
            if several.dim() == 4 and several.shape[1] == 3 and all(several.shape[2:]):
                return several
        elif isinstance(several, Sequence) and several and all(map(_is_image, several)):
            return torch.stack([self(image) for image in several])
        raise UserError(
            f"a model takes PIL images or a float tensor (B, 3, H, W), not {_in_words(images)}; "
            "its transform makes a float tensor (3, H, W) of an image."
        )


def _is_image(value: object) -> TypeGuard[Image.Image]:
    return isinstance(value, Image.Image)


def _in_words(value: object) -> str:
    """E.g. "a torch.uint8 tensor (3, 8, 8)"."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor {tuple(value.shape)}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        kind = type(value).__name__
        return f"a {kind} with {_in_words(value[0])}" if value else f"an empty {kind}"
    return f"a {type(value).__name__}"
