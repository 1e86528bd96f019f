"""What a classifier's batch goes through before the network: erasing, mixup and cutmix.

mixup: x = l x_i + (1 - l) x_j, y = l y_i + (1 - l) y_j (Zhang et al., arXiv:1710.09412); cutmix: a
box of x_i is x_j's, l the rest of the area (Yun et al., arXiv:1905.04899). timm's `Mixup` in mode
"batch" mixes, as in BEiT's, iBOT's and DeiT's code: one l for the images of a GPU, j is i counted
from the end. So that nothing depends on the number of GPUs, `group` is the number of these images.
"""

from __future__ import annotations

import numpy as np
import torch
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor

from sslbench.backbones.sampling import PerSample, Place
from sslbench.data.recognition import drawing_from


class Erasing(PerSample):
    """Fills the erased pixels of normalised images with noise of unit variance.

    timm's RandomErasing in mode "pixel"; the noise belongs to the image, wherever it is computed.
    """

    def forward(self, images: Tensor, erased: Tensor, places: Tensor) -> Tensor:
        """images: float (B, 3, H, W); erased: bool (B, H, W) -> (B, 3, H, W).

        places: where the flat `erased` is True, int64 on the CPU.
        """
        place = self.place or Place(0, len(images), len(images))
        seeds = torch.randint(2**62, (place.total,))[place.first : place.first + place.count]
        images = images.clone()
        for i in (places // erased[0].numel()).unique().tolist():
            rng = torch.Generator(images.device).manual_seed(int(seeds[i]))
            noise = torch.randn(images[i].shape, generator=rng, device=images.device)
            images[i] = torch.where(erased[i], noise.to(images.dtype), images[i])
        return images


class Mixing(PerSample):
    """Mixes each group of images with itself in reversed order, and their labels alike.

    mixup, cutmix: parameters of the beta distributions of l, 0: off; probability: that a group is
    mixed at all; switch: that it is by cutmix where both are on; smoothing: of labels; group:
    images that share l. A micro-batch holds whole groups.
    """

    def __init__(
        self,
        classes: int,
        smoothing: float,
        mixup: float,
        cutmix: float,
        probability: float,
        switch: float,
        group: int,
    ) -> None:
        super().__init__()
        self.classes, self.smoothing, self.group = classes, smoothing, group
        self.mixup = (
            Mixup(mixup, cutmix, None, probability, switch, "batch", True, smoothing, classes)
            if probability and (mixup or cutmix)
            else None
        )

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """images: float (B, 3, H, W); labels: int64 (B,) -> mixed images, targets (B, K)."""
        if self.mixup is None:
            return images, mixup_target(labels, self.classes, 1.0, self.smoothing)
        place = self.place or Place(0, len(images), len(images))
        seeds = torch.randint(2**62, (place.total // self.group,)).tolist()
        first = place.first // self.group
        mixed = []
        for k in range(place.count // self.group):
            rows = slice(k * self.group, (k + 1) * self.group)
            with drawing_from(np.random.default_rng(seeds[first + k])):
                mixed.append(self.mixup(images[rows].clone(), labels[rows]))
        return torch.cat([x for x, _ in mixed]), torch.cat([y for _, y in mixed])
