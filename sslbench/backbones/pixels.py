"""The floor below every learnt feature: the pixels themselves."""

from __future__ import annotations

from torch import Tensor

from sslbench.backbones.base import Backbone, Tokens


class RawPixels(Backbone):
    """[CLS] = all pixels of the normalised image, flattened; patches = the patches' own pixels."""

    def __init__(self, image_size: int, patch_size: int = 8) -> None:
        super().__init__()
        self.embed_dim, self.depth, self.patch_size = 3 * image_size**2, 1, patch_size

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tokens:
        p = self.patch_size
        grid = (images.shape[-2] // p, images.shape[-1] // p)
        patches = images.unfold(2, p, p).unfold(3, p, p)  # (B, 3, h, w, p, p)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        return Tokens(images.flatten(1), patches, grid)

    def intermediate(self, images: Tensor, n: int, norm: bool = True) -> list[Tokens]:
        return [self(images)]
