"""The Backbone contract: what every method trains and every benchmark evaluates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sslbench.backbones.sampling import DropPath
from sslbench.errors import UserError
from sslbench.system.device import chosen
from sslbench.system.products import FastProducts


class Tokens(NamedTuple):
    """The output of a backbone for a batch of images.

    cls: (B, D), the [CLS] token, or the mean patch of a backbone without one (Swin); patches:
    (B, N, D), row by row; grid: (h, w) with N = h * w.
    """

    cls: Tensor
    patches: Tensor
    grid: tuple[int, int]


class Backbone(nn.Module):
    """Base class of all backbones; any input size that is a multiple of the patch is accepted.

    patch_size: side of an output patch token in pixels (32 for Swin, whose input patches have 4).
    dense: whether it can be fine-tuned for detection and segmentation; only then do the methods
    below `normed` work. stage_ends: the last block (0-based) of each stage where stages have
    maps of their own (Swin). checkpointing: in training, blocks keep only their inputs and are
    computed again in the backward pass (less memory, about a third more time). compiled: in
    training, blocks run as torch.compile makes them; see `compile_blocks`.
    """

    embed_dim: int
    patch_size: int
    depth: int
    init_std: float
    dense: bool = False
    stage_ends: tuple[int, ...] = ()
    checkpointing: bool = False
    compiled: bool = False

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tokens:
        """Tokens after the final norm.

        images: (B, 3, H, W) normalised; mask: bool (B, h, w), True = replaced by the mask token.
        """
        raise NotImplementedError

    def cls_tokens(self, images: Tensor) -> Tensor:
        """[CLS] after the final norm, (B, D), as of `forward` up to rounding.

        images: (B, 3, H, W) normalised. A backbone need not compute what [CLS] does not depend on.
        """
        return self(images).cls

    def cls_and_masked(self, images: Tensor, mask: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """[CLS] (B, D) and the masked patches (M, D) after the final norm, as `forward` gives them.

        Up to rounding; images and mask as for `forward`; masked: int64 (M,) on the CPU, where the
        flat mask is True. A backbone need not compute what these do not depend on.
        """
        tokens = self(images, mask)
        return tokens.cls, chosen(tokens.patches.flatten(0, 1), masked)

    def last_blocks(self, images: Tensor, n: int) -> list[Tokens]:
        """Tokens after each of the last `n` blocks (all of a shallower backbone), first to last.

        They are those before the final norm, see `normed`. Blocks of an earlier stage (Swin) have
        fewer channels and more patches.
        """
        raise NotImplementedError

    def normed(self, tokens: Tokens) -> Tokens:
        """Tokens of `last_blocks` through the final norm; as they are where there is none.

        Blocks of an earlier stage (Swin) have none.
        """
        return tokens

    def feature_pyramid(
        self, images: Tensor, blocks: Sequence[int], norm: bool = False
    ) -> list[Tensor]:
        """Patch tokens after the named blocks (0-based), in the order named, as (B, D, h, w) maps.

        norm: each through the final norm, but for blocks of an earlier stage, which have none.
        Nothing after the last named block is computed.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no feature maps")

    def map_shape(self, block: int) -> tuple[int, int]:
        """Channels D of the map after a block (0-based), and pixels on each side of one entry."""
        return self.embed_dim, self.patch_size

    def set_drop_path(self, rate: float) -> None:
        """Sets drop path as if built with it: rising linearly over depth from 0 to `rate`."""
        raise NotImplementedError(f"{type(self).__name__} has no drop path")

    def compile_blocks(self) -> None:
        """From now on, blocks are compiled in training; UserError if they cannot be."""
        raise UserError(
            f"train.compile=True is for vit_* and beit_* backbones, not {type(self).__name__}; "
            "leave it out."
        )

    def layer_of(self, parameter: str) -> int:
        """Depth of a parameter by name: 0 the embeddings, i + 1 block i, depth + 1 the rest."""
        raise NotImplementedError(f"{type(self).__name__} has no layers")

    def prune(self, depth: int, norm: bool) -> None:
        """Removes what `feature_pyramid` does not need for the first `depth` blocks.

        These are the later blocks, the mask token and, unless `norm`, the final norm, which becomes
        the identity. Every remaining parameter then gets a gradient from the last block's map.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be pruned")

    def _check_blocks(self, blocks: Sequence[int]) -> None:
        if not all(0 <= i < self.depth for i in blocks):
            raise ValueError(f"blocks {tuple(blocks)} of a backbone with {self.depth} blocks")

    def _run(self, block: Callable[..., Tensor], *inputs: nn.Module | Tensor | None) -> Tensor:
        """Runs one block; with `checkpointing` it is computed again in the backward pass."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            # torch takes a mode off in the backward pass, so that the two passes would differ
            products = nullcontext if self.compiled else FastProducts
            both = (products(), products())
            return checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: both)
        return block(*inputs)


def spread_drop_path(blocks: Iterable[nn.Module], rate: float) -> None:
    """Sets `drop_path1` and `drop_path2` of timm's blocks: 0 in the first, `rate` in the last."""
    blocks = list(blocks)
    rates = torch.linspace(0, rate, len(blocks), device="cpu").tolist()  # also under "meta"
    for block, drop in zip(blocks, rates, strict=True):
        for name in ("drop_path1", "drop_path2"):
            path = DropPath(drop) if drop else nn.Identity()
            block.register_module(name, path.train(block.training))
