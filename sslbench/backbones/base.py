"""The Backbone contract: what every method trains and every benchmark judges."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Tokens(NamedTuple):
    """What a backbone makes of a batch of images.

    cls: (B, D) the [CLS] token; patches: (B, N, D) row by row; grid: (h, w) with N = h * w.
    """

    cls: Tensor
    patches: Tensor
    grid: tuple[int, int]


class Backbone(nn.Module):
    """Base class of all backbones; any input size that is a multiple of the patch is accepted."""

    embed_dim: int
    patch_size: int
    depth: int
    init_std: float

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tokens:
        """Tokens after the final norm.

        images: (B, 3, H, W) normalised; mask: bool (B, h, w), True = replaced by the mask token.
        """
        raise NotImplementedError

    def intermediate(self, images: Tensor, n: int, norm: bool = True) -> list[Tokens]:
        """Tokens of the last `n` blocks, first to last, each through the final norm if `norm`."""
        raise NotImplementedError
