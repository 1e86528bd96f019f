"""What loading returns: a backbone ready for evaluation, and an account of its file's keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from sslbench.backbones.base import Backbone, Tokens
from sslbench.data.dataset import CROP_RATIO
from sslbench.data.transform import ModelTransform
from sslbench.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from sslbench.result import ModelCard


@dataclass(frozen=True)
class Report:
    """Every key of a file accounted for: loaded, or left out with the reason why.

    notes: what was assumed and what the file lacks without harm.
    """

    loaded: tuple[str, ...]
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # reason -> keys
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report in words."""
        lines = [f"loaded: {len(self.loaded)} tensors"]
        for reason, keys in self.dropped.items():
            lines.append(f"left out, {reason}: {shortened(keys)}")
        return lines + [f"note: {note}" for note in self.notes]


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned classifier in a file of others, see `tuned.with_tuned_classifier`.

    tensors: by names in `tuned.Classifier`, or by their keys in the file where they have none
    there. reads, interpolation, crop_ratio: as in `LoadedModel`, where something tells them.
    """

    tensors: Mapping[str, Tensor]
    reads: str = ""
    interpolation: Literal["", "bicubic", "bilinear"] = ""
    crop_ratio: float | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A backbone ready for evaluation, and everything that must travel with its weights.

    poolings: features that its method is evaluated by; image_size: side of its images in pixels;
    mean, std: of inputs in [0, 1]; head: its projection head. source: the source that was loaded,
    absolute where it is a path; it stays on this machine. classifier: features -> class scores,
    released with these weights, where it was given, or trained with them; reads: the pooling of the
    last block that one trained with them is for; classifier_name: the setting of its records;
    classifier_given: the user named it. tuned: one in the file of others that is used on request.
    interpolation, crop_ratio: of test images, where they are not the usual ones. report: of weights
    that others made.
    """

    backbone: Backbone
    card: ModelCard
    poolings: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    head: nn.Module | None = None
    source: str = ""
    classifier: nn.Module | None = None
    reads: str = ""
    classifier_name: str = ""
    classifier_given: bool = False
    tuned: Tuned | None = None
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    crop_ratio: float | None = None
    report: Report | None = None

    @property
    def transform(self) -> ModelTransform:
        """PIL image -> float32 (3, S, S) as this model is evaluated on photographs.

        The shorter side becomes S / 0.875, bicubic, then the centre is cropped: Resize(256) and
        CenterCrop(224) for 224 pixels. S is `image_size`; mean and std are the model's own, and so
        is anything else that it was fine-tuned for.
        """
        ratio, statistics = self.crop_ratio or CROP_RATIO, (tuple(self.mean), tuple(self.std))
        return ModelTransform(self.image_size, ratio, *statistics, self.interpolation)

    @torch.no_grad()
    def __call__(self, images: Tensor | Image.Image | Sequence[Image.Image]) -> Tokens:
        """The last block's tokens after the final norm: [CLS] (B, D), patches (B, N, D), grid.

        images: float (B, 3, H, W) as `transform` gives it, or PIL images, which are transformed
        here. They are moved to the device and precision of the backbone. Raises UserError for
        anything else.
        """
        batch = self.transform.batch(images)
        return self.backbone(batch.to(next(self.backbone.parameters(), batch.float())))


def shortened(keys: tuple[str, ...] | list[str], shown: int = 3) -> str:
    """The first of `keys` and how many more there are."""
    more = len(keys) - shown
    return ", ".join(keys[:shown]) + (f" and {more} more" if more > 0 else "")
