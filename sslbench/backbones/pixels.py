"""The floor below every learnt feature: the pixels themselves."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sslbench.backbones.base import Backbone, Tokens

SIDE = 32  # pixels; more would cost minutes in a linear probe and score no better


class RawPixels(Backbone):
    """[CLS] = all normalised pixels, averaged to at most 32 x 32; patches = tiles of 8 x 8."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.side, self.depth, self.patch_size = min(SIDE, image_size), 1, 8
        self.embed_dim = 3 * self.side**2

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tokens:
        images = F.adaptive_avg_pool2d(images, self.side)
        p, side = self.patch_size, self.side // self.patch_size
        patches = images.unfold(2, p, p).unfold(3, p, p)  # (B, 3, h, w, p, p)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        return Tokens(images.flatten(1), patches, (side, side))

    def last_blocks(self, images: Tensor, n: int) -> list[Tokens]:
        return [self(images)]
