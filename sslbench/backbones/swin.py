"""Swin: windowed attention over four stages, on timm's blocks, as iBOT trains it.

Equals ibot/models/swin_transformer.py: merging at the *end* of a stage, [CLS] = the mean of the
final tokens. The windows are fixed by `image_size`: a stage no larger than its window has one
window and no shift (stages 3 and 4 of window 14 at 224 px). Other input sizes keep these windows,
padded where they do not fit; a shifted block does not attend across the border of its padding, an
unshifted one does. For dense tasks see `prune`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, islice
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformerBlock,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn

from sslbench.backbones.base import Backbone, Tokens, spread_drop_path
from sslbench.backbones.config import SWINS, BackboneConfig
from sslbench.backbones.mlp import Mlp
from sslbench.backbones.sampling import residual
from sslbench.errors import UserError


class SwinTransformer(Backbone):
    """A mask has one entry per output patch; each stands for 8 x 8 of the embedded patches.

    The mask token replaces them after the norm of the embedding (iBOT's `mask_model`).
    """

    dense = True

    def __init__(self, config: BackboneConfig, mask_token: bool = False) -> None:
        super().__init__()
        self.config = config
        width, depths, heads, self.init_std = SWINS[config.name]
        norm: Any = partial(nn.LayerNorm, eps=config.norm_eps)
        self.embed_dim, self.depth = width * 2 ** (len(depths) - 1), sum(depths)
        self.patch_size = config.stride
        self.stage_ends = tuple(end - 1 for end in accumulate(depths))
        self.patch_embed = PatchEmbed(
            None, config.patch_size, embed_dim=width, norm_layer=norm, output_fmt="NHWC"
        )
        self.mask_token = nn.Parameter(torch.zeros(1, width)) if mask_token else None
        side = config.image_size // config.patch_size
        self.layers = nn.ModuleList(
            Stage(
                width << i, side >> i, depths[i], heads[i], config.window, i + 1 < len(depths), norm
            )
            for i in range(len(depths))
        )
        self.norm = norm(self.embed_dim)
        self.set_drop_path(config.drop_path)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=self.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tokens:
        *_, x = self._through_blocks(images, mask)
        return _tokens(self.norm(x))

    def last_blocks(self, images: Tensor, n: int) -> list[Tokens]:
        return [_tokens(x) for x in deque(self._through_blocks(images, None), maxlen=n)]

    def normed(self, tokens: Tokens) -> Tokens:
        if tokens.patches.shape[-1] != self.embed_dim:  # of an earlier stage
            return tokens
        patches = self.norm(tokens.patches)
        return Tokens(patches.mean(dim=1), patches, tokens.grid)

    def feature_pyramid(
        self, images: Tensor, blocks: Sequence[int], norm: bool = False
    ) -> list[Tensor]:
        self._check_blocks(blocks)
        outputs = enumerate(islice(self._through_blocks(images, None), max(blocks) + 1))
        kept = {
            i: self.norm(x) if norm and x.shape[-1] == self.embed_dim else x
            for i, x in outputs
            if i in blocks
        }
        return [kept[i].permute(0, 3, 1, 2).contiguous() for i in blocks]

    def map_shape(self, block: int) -> tuple[int, int]:
        stage, (width, *_) = self._stage_of(block), SWINS[self.config.name]
        return width << stage, self.config.patch_size << stage

    def layer_of(self, parameter: str) -> int:
        """A merging belongs to the block before it, as in SimMIM's `get_swin_layer`."""
        first, *rest = parameter.split(".")
        if first in ("patch_embed", "mask_token"):
            return 0
        if first != "layers":
            return self.depth + 1
        stage = int(rest[0])
        if rest[1] == "downsample":
            return self.stage_ends[stage] + 1
        return self._first_of(stage) + int(rest[2]) + 1

    def prune(self, depth: int, norm: bool) -> None:
        """Also shifts every second block of all stages, as mmdet's and mmseg's Swin do.

        Stages that had but one window at `image_size` have several of the images of dense tasks
        (mmdet/models/backbones/swin.py, `SwinBlockSequence`).
        """
        last = self._stage_of(depth - 1)
        for stage in self._stages():
            stage.shift()
        ended = list(self._stages())[last]
        ended.blocks = ended.blocks[: depth - self._first_of(last)]
        ended.downsample = None
        norm = norm and last + 1 == len(self.layers)
        self.layers, self.depth, self.mask_token = self.layers[: last + 1], depth, None
        self.stage_ends = (*self.stage_ends[:last], depth - 1)
        if not norm:
            self.norm = nn.Identity()

    def _stage_of(self, block: int) -> int:
        return next(i for i, end in enumerate(self.stage_ends) if block <= end)

    def _first_of(self, stage: int) -> int:
        return self.stage_ends[stage - 1] + 1 if stage else 0

    def set_drop_path(self, rate: float) -> None:
        spread_drop_path((block for stage in self._stages() for block in stage.blocks), rate)

    def _through_blocks(self, images: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """(B, h, w, D) after every block, before a merging that follows it."""
        x = self._embed(images, mask)
        for stage in self._stages():
            for block in stage.blocks:
                x = self._run(block, x)
                yield x
            if stage.downsample is not None:
                x = stage.downsample(x)

    def _stages(self) -> Iterable[Stage]:
        return cast("Iterable[Stage]", self.layers)

    def _embed(self, images: Tensor, mask: Tensor | None) -> Tensor:
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise UserError(
                f"image size {height}x{width} is not a multiple of Swin's stride "
                f"{self.patch_size}; choose a multiple of it."
            )
        x = self.patch_embed(images)
        if mask is not None:
            if self.mask_token is None:
                raise ValueError("this backbone was built without a mask token")
            ratio = self.patch_size // self.config.patch_size
            mask = mask.repeat_interleave(ratio, 1).repeat_interleave(ratio, 2)
            x = torch.where(mask[..., None], self.mask_token.to(x.dtype), x)
        return x


class Stage(nn.Module):
    """Blocks on side x side tokens, every second one shifted, then a merging of 2 x 2."""

    def __init__(
        self, width: int, side: int, depth: int, heads: int, window: int, merge: bool, norm: Any
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(
                width,
                (side, side),
                heads,
                window_size=window,
                shift_size=window // 2 if i % 2 else 0,
                dynamic_mask=True,
                norm_layer=norm,
            )
            for i in range(depth)
        )
        self.downsample = PatchMerging(width, norm_layer=norm) if merge else None

    def shift(self) -> None:
        """Shifts every second block by half a window, whatever the size the stage was made for."""
        for i, block in enumerate(cast("Iterable[Block]", self.blocks)):
            height, width = block.window_size
            block.shift_size = (height // 2, width // 2) if i % 2 else (0, 0)


class Block(SwinTransformerBlock):
    """timm's block, padded before it is shifted: timm's own order moves padding into the image.

    Branches that drop path leaves out are not computed.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.register_module("mlp", Mlp.of(self.mlp))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, h, w, D)."""
        x = residual(x, self.drop_path1, lambda rows: self._attn(self.norm1(rows)))
        return residual(x, self.drop_path2, lambda rows: self.mlp(self.norm2(rows)))

    def _attn(self, x: Tensor) -> Tensor:
        """x: (B, h, w, D) of any size."""
        height, width = x.shape[1:3]
        window, (down, right) = self.window_size, self.shift_size
        x = F.pad(x, (0, 0, 0, -width % window[1], 0, -height % window[0]))
        padded = x.shape[1:3]
        x = x.roll((-down, -right), dims=(1, 2))
        mask = self.get_attn_mask(x)
        windows = self.attn(window_partition(x, window).flatten(1, 2), mask)
        x = window_reverse(windows.unflatten(1, window), window, *padded)
        return x.roll((down, right), dims=(1, 2))[:, :height, :width]


def _tokens(x: Tensor) -> Tokens:
    """(B, h, w, D) -> tokens; the mean patch stands for the [CLS] token that Swin lacks."""
    patches = x.flatten(1, 2)
    return Tokens(patches.mean(dim=1), patches, (x.shape[1], x.shape[2]))
