"""The shared Vision Transformer: timm's blocks behind the Backbone interface.

Equals the ViT of DINO and iBOT (dino/vision_transformer.py, ibot/models/vision_transformer.py):
pre-norm, MLP ratio 4, GELU, LayerNorm eps 1e-6 (unless the config says another), learned absolute
positions added to [CLS] and patches, drop path rising linearly over depth. The optional mask token
replaces patches after the patch projection and before positions are added (the order of all three
papers' code). LayerScale and registers are DINOv2's (dinov2/models/vision_transformer.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, repeat
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from sslbench.backbones.attention import Attention
from sslbench.backbones.base import Backbone, Tokens, spread_drop_path
from sslbench.backbones.compiled import compiled, drawn, drops, padded
from sslbench.backbones.config import SIZES, TRANSFORMERS, BackboneConfig
from sslbench.backbones.mlp import Mlp
from sslbench.backbones.sampling import Drop, add_rows, kept_by, residual
from sslbench.errors import UserError
from sslbench.system.device import chosen, sent

EMBEDDINGS = ("patch_embed", "cls_token", "pos_embed", "mask_token", "register_tokens")


def layer_norm(config: BackboneConfig) -> Any:
    """The constructor of the LayerNorms of a backbone."""
    return partial(nn.LayerNorm, eps=config.norm_eps)


class VisionTransformer(Backbone):
    dense = True

    def __init__(self, config: BackboneConfig, mask_token: bool = False) -> None:
        super().__init__()
        self.config = config
        width, depth, heads, self.init_std = SIZES[config.name]
        patch_size = config.patch_size
        self.embed_dim, self.depth, self.patch_size = width, depth, patch_size
        self.grid_size = config.image_size // patch_size
        self.patch_embed = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        absolute = config.positions == "absolute"
        positions = torch.zeros(1, 1 + self.grid_size**2, width)
        self.pos_embed = nn.Parameter(positions) if absolute else None
        # (1, D): two-dimensional, hence weight-decayed as by `get_params_groups` of dino/utils.py
        self.mask_token = nn.Parameter(torch.zeros(1, width)) if mask_token else None
        registers = torch.zeros(1, config.registers, width)
        self.register_tokens = nn.Parameter(registers) if config.registers else None
        self.blocks = nn.ModuleList(self._make_block(width, heads) for _ in range(depth))
        self.set_drop_path(config.drop_path)
        self.norm = layer_norm(config)(width)
        self._initialise()

    def _make_block(self, width: int, heads: int) -> nn.Module:
        scale = self.config.layer_scale or None
        block = Block(
            width, heads, qkv_bias=True, init_values=scale, norm_layer=layer_norm(self.config)
        )
        block.register_module("attn", Attention.of(block.attn))
        block.register_module("mlp", Mlp.of(block.mlp))
        return block

    def _initialise(self) -> None:
        for module in self.modules():
            # cut at +-2 absolute, biases 0; convolutions keep torch's default
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=self.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=1e-6)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tokens:
        x, grid = self._embed(images, mask)
        *_, x = self._through_blocks(x, grid)
        return self._split(self.norm(x), grid)

    def cls_tokens(self, images: Tensor) -> Tensor:
        """The last block makes keys and values of every token, and all else of [CLS] alone."""
        x, _ = self._embed(images, None)
        for block in self.blocks[:-1]:
            x = self._block(block, x, None)
        return self.norm(self._call(VisionTransformer._last_block_of_cls, self.blocks[-1], x))[:, 0]

    def _last_block_of_cls(self, block: nn.Module, x: Tensor, first: Drop, second: Drop) -> Tensor:
        """All tokens before the last block (B, N, D) -> [CLS] after it (B, 1, D)."""
        attended = self._attention(block).of_first(block.get_submodule("norm1")(x))
        branch = self._scaled(block, 1, attended)
        cls = x[:, :1] + (first * branch if isinstance(first, Tensor) else first(branch))
        return residual(cls, second, partial(self._mlp, block))

    def cls_and_masked(self, images: Tensor, mask: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """The last block attends from every token, and computes all else where it is read."""
        x, grid = self._embed(images, mask)
        *blocks, (last, bias) = zip(self.blocks, self._biases(grid), strict=False)
        for block, its_bias in blocks:
            x = self._block(block, x, its_bias)
        read = self._read(len(x), x.shape[1], masked)
        static = self.compiled and self.training
        last_block = self._compiled_last_block if static else self._last_block_where
        x = self.norm(self._run(last_block, last, x, bias, read))  # (S, D)
        cls = read % (grid[0] * grid[1] + self._extra) == 0  # (S,)
        return chosen(x, cls.nonzero()[:, 0]), chosen(x, (~cls).nonzero()[:, 0])

    def _read(self, images: int, count: int, masked: Tensor) -> Tensor:
        """Where [CLS] and the masked patches are among all tokens, int64 (S,), image by image."""
        patches = count - self._extra
        of_masked = masked // patches * count + masked % patches + self._extra
        return torch.cat([torch.arange(images) * count, of_masked]).sort().values

    def _last_block_where(
        self, block: nn.Module, x: Tensor, bias: Tensor | None, read: Tensor
    ) -> Tensor:
        """All tokens before the last block (B, T, D) -> those that are read, after it (S, D).

        read: int64 (S,) on the CPU, in ascending order.
        """
        part, attention = block.get_submodule, self._attention(block)
        (images, count), attended, wanted, rows = x.shape[:2], x, read, None
        kept, scale = kept_by(part("drop_path1"), images)
        if kept is not None:
            attended, rows = chosen(x, kept.nonzero()[:, 0]), _of_kept(kept, read // count)
            number = kept.cumsum(0) - 1  # of an image among those that are kept
            wanted = number[read[rows] // count] * count + read[rows] % count
        mixed = attention.mixed(part("norm1")(attended), bias).flatten(0, 1)
        branch = self._scaled(block, 1, attention.proj(chosen(mixed, wanted)))
        tokens = add_rows(chosen(x.flatten(0, 1), read), rows, branch, scale)
        kept, scale = kept_by(part("drop_path2"), images)
        rows = None if kept is None else _of_kept(kept, read // count)
        branch = self._mlp(block, tokens if rows is None else chosen(tokens, rows))
        return add_rows(tokens, rows, branch, scale)

    def _compiled_last_block(
        self, block: nn.Module, x: Tensor, bias: Tensor | None, read: Tensor
    ) -> Tensor:
        """As `_last_block_where`; tokens are padded before it, and cut off after it."""
        count = x.shape[1]
        places = padded(read, len(x), len(x) * (count - self._extra))
        first, second = (sent(f[places // count], x.device)[:, None] for f in drawn(block, x))
        run = compiled(VisionTransformer._last_block_at)
        return run(self, block, x, bias, sent(places, x.device), first, second)[: len(read)]

    def _last_block_at(
        self, block: nn.Module, x: Tensor, bias: Tensor | None, places: Tensor, *drops: Tensor
    ) -> Tensor:
        """As `_last_block_where`; places: on the device; drops: both factors, (S, 1)."""
        first, second = drops
        attention = self._attention(block)
        mixed = attention.mixed(block.get_submodule("norm1")(x), bias).flatten(0, 1)
        branch = self._scaled(block, 1, attention.proj(mixed.index_select(0, places)))
        tokens = x.flatten(0, 1).index_select(0, places) + first * branch
        return residual(tokens, second, partial(self._mlp, block))

    def last_blocks(self, images: Tensor, n: int) -> list[Tokens]:
        x, grid = self._embed(images, None)
        return [self._split(x, grid) for x in deque(self._through_blocks(x, grid), maxlen=n)]

    def normed(self, tokens: Tokens) -> Tokens:
        return Tokens(self.norm(tokens.cls), self.norm(tokens.patches), tokens.grid)

    def feature_pyramid(
        self, images: Tensor, blocks: Sequence[int], norm: bool = False
    ) -> list[Tensor]:
        self._check_blocks(blocks)
        x, grid = self._embed(images, None)
        outputs = enumerate(islice(self._through_blocks(x, grid), max(blocks) + 1))
        kept = {i: x for i, x in outputs if i in blocks}
        tokens = [self._split(self.norm(kept[i]) if norm else kept[i], grid) for i in blocks]
        return [t.patches.transpose(1, 2).unflatten(2, grid).contiguous() for t in tokens]

    def compile_blocks(self) -> None:
        self.compiled = True

    def set_drop_path(self, rate: float) -> None:
        spread_drop_path(self.blocks, rate)

    def layer_of(self, parameter: str) -> int:
        first, _, rest = parameter.partition(".")
        if first == "blocks":
            return int(rest.partition(".")[0]) + 1
        return 0 if first in EMBEDDINGS else self.depth + 1

    def prune(self, depth: int, norm: bool) -> None:
        self.blocks, self.depth = self.blocks[:depth], depth
        self.mask_token = None
        if not norm:
            self.norm = nn.Identity()

    def _through_blocks(self, x: Tensor, grid: tuple[int, int]) -> Iterator[Tensor]:
        for block, bias in zip(self.blocks, self._biases(grid), strict=True):
            x = self._block(block, x, bias)
            yield x

    def _block(self, block: nn.Module, x: Tensor, bias: Tensor | None) -> Tensor:
        return self._call(VisionTransformer._through, block, x, bias)

    def _call(
        self, function: Callable[..., Tensor], block: nn.Module, x: Tensor, *inputs: Tensor | None
    ) -> Tensor:
        """The result of one of the methods below, compiled where blocks are."""
        if self.compiled and self.training:
            return self._run(compiled(function), self, block, x, *inputs, *drops(block, x))
        return self._run(function, self, block, x, *inputs, *self._paths(block))

    def _paths(self, block: nn.Module) -> tuple[nn.Module, nn.Module]:
        return block.get_submodule("drop_path1"), block.get_submodule("drop_path2")

    def _through(
        self, block: nn.Module, x: Tensor, bias: Tensor | None, first: Drop, second: Drop
    ) -> Tensor:
        """One block: (B, T, D) -> (B, T, D); first, second: see `residual`."""
        part = block.get_submodule

        def attention(x: Tensor) -> Tensor:
            return self._scaled(block, 1, part("attn")(part("norm1")(x), bias))

        x = residual(x, first, attention)
        return residual(x, second, partial(self._mlp, block))

    def _attention(self, block: nn.Module) -> Attention:
        return cast(Attention, block.get_submodule("attn"))

    def _mlp(self, block: nn.Module, x: Tensor) -> Tensor:
        return self._scaled(block, 2, block.get_submodule("mlp")(block.get_submodule("norm2")(x)))

    def _scaled(self, block: nn.Module, branch: int, x: Tensor) -> Tensor:
        """The output of a block's first or second branch through its LayerScale."""
        return block.get_submodule(f"ls{branch}")(x)

    def _biases(self, grid: tuple[int, int]) -> Iterable[Tensor | None]:
        """The bias that each block adds to its attention logits; None where it adds none."""
        return repeat(None, len(self.blocks))

    def _embed(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise UserError(
                f"image size {height}x{width} is not a multiple of the patch size "
                f"{self.patch_size}; choose a multiple of it."
            )
        grid = (height // self.patch_size, width // self.patch_size)
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        if mask is not None:
            if self.mask_token is None:
                raise ValueError("this backbone was built without a mask token")
            x = torch.where(mask.flatten(1)[..., None], self.mask_token.to(x.dtype), x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        if self.pos_embed is not None:
            x = x + self._positions(grid)
        if self.register_tokens is not None:  # they have no position
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        return x, grid

    @property
    def _extra(self) -> int:
        """Tokens before the patches: [CLS] and registers."""
        return 1 + self.config.registers

    def _split(self, x: Tensor, grid: tuple[int, int]) -> Tokens:
        return Tokens(x[:, 0], x[:, self._extra :], grid)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Positions for `grid`, (1, 1 + h*w, D).

        Bicubic by scale factor with 0.1 added to the target, as dino/vision_transformer.py:174-194
        does: the exact target size would shift the values slightly. DINOv2's models with registers
        are made for the exact size, antialiased (dinov2/hub/backbones.py), and transformers takes
        the exact size for all (`interpolate_pos_encoding`).
        """
        table, side = self.pos_embed, self.grid_size
        assert table is not None, "asked for only where there is a table"
        if grid == (side, side):
            return table
        square = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        if self.config.registers or self.config.resampling == TRANSFORMERS:
            smooth = self.config.registers > 0
            square = F.interpolate(square, size=grid, mode="bicubic", antialias=smooth)
        else:
            scale = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
            square = F.interpolate(square, scale_factor=scale, mode="bicubic")
        return torch.cat([table[:, :1], square.flatten(2).transpose(1, 2)], dim=1)


def _of_kept(kept: Tensor, image: Tensor) -> Tensor:
    """Which tokens are of images that are kept, int64; kept: bool (B,); image: of each token."""
    return kept[image].nonzero()[:, 0]
