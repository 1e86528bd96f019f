"""BEiT's Vision Transformer: relative position bias, LayerScale, no bias on keys.

Equals beit/modeling_pretrain.py and beit/modeling_finetune.py on timm's BEiT blocks. Positions are
absolute as in the paper's own ImageNet-1K results, or a learned bias on the attention logits, one
table for all blocks ("shared relative", as released for ImageNet-22K) or one in every block
("relative", as fine-tuned).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import make_interp_spline
from timm.models.beit import Block, gen_relative_position_index
from torch import Tensor, nn

from sslbench.backbones.attention import Attention
from sslbench.backbones.base import Backbone
from sslbench.backbones.config import SIZES, TRANSFORMERS, BackboneConfig
from sslbench.backbones.vit import VisionTransformer, layer_norm

CLS_ENTRIES = 3  # last rows of a table: [CLS] to patch, patch to [CLS], [CLS] to itself


class BEiTTransformer(VisionTransformer):
    def __init__(self, config: BackboneConfig, mask_token: bool = False) -> None:
        super().__init__(config, mask_token)
        if mask_token:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dim))
        heads = SIZES[config.name][2]
        shared = config.positions == "shared relative"
        self.rel_pos_bias = RelativePositionBias(self.grid_size, heads) if shared else None

    cls_tokens = Backbone.cls_tokens  # its [CLS] attends with a bias

    def _make_block(self, width: int, heads: int) -> nn.Module:
        scale = self.config.layer_scale or None
        block = Block(
            width, heads, qkv_bias=True, init_values=scale, norm_layer=layer_norm(self.config)
        )
        side = self.grid_size if self.config.positions == "relative" else None
        block.register_module("attn", BEiTAttention(width, heads, side))
        return block

    def _scaled(self, block: nn.Module, branch: int, x: Tensor) -> Tensor:
        gain = getattr(block, f"gamma_{branch}")
        return x if gain is None else gain * x

    def _biases(self, grid: tuple[int, int]) -> Iterable[Tensor | None]:
        if self.config.positions == "absolute":
            return super()._biases(grid)
        return self._relative_biases(grid)

    def _relative_biases(self, grid: tuple[int, int]) -> Iterator[Tensor]:
        index = gen_relative_position_index(grid, device=self.cls_token.device)
        if self.rel_pos_bias is not None:
            bias = self._bias(self.rel_pos_bias.relative_position_bias_table, grid, index)
        for block in self.blocks:
            if self.rel_pos_bias is None:
                table = block.get_parameter("attn.relative_position_bias_table")
                bias = self._bias(table, grid, index)
            yield bias

    def _bias(self, table: Tensor, grid: tuple[int, int], index: Tensor) -> Tensor:
        """(1, heads, 1 + N, 1 + N): what a table adds to the attention logits on a `grid`.

        A table made for another grid is resampled: as `splined_table`, or linearly, as transformers
        does (`BeitRelativePositionBias`).
        """
        if grid != (self.grid_size, self.grid_size):
            linear = self.config.resampling == TRANSFORMERS
            table = linear_table(table, grid) if linear else splined_table(table, grid)
        return table[index].permute(2, 0, 1)[None]


class RelativePositionBias(nn.Module):
    """The table that all blocks share, ((2 side - 1)^2 + 3, heads)."""

    def __init__(self, side: int, heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = _fresh_table(side, heads)


class BEiTAttention(Attention):
    """Queries and values have a bias, keys have none (beit/modeling_finetune.py:78-84,123-124).

    side: side of the grid that its own bias table is made for; None for attention without a table.
    The bias itself is passed in, because it depends on the size of the input.
    """

    def __init__(self, width: int, heads: int, side: int | None) -> None:
        super().__init__(nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width), heads)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.relative_position_bias_table = None if side is None else _fresh_table(side, heads)

    def _bias(self) -> Tensor:
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])


def splined_table(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """A bias table for a `grid`, resampled as beit/run_class_finetuning.py does.

    The trained distances are spread as 1, 1 + q, 1 + q + q^2, ... up to the largest new one and a
    bicubic spline goes through them; the entries of [CLS] stay.
    """
    span = int((len(table) - CLS_ENTRIES) ** 0.5)
    rows, columns = (torch.from_numpy(_resampling(span, 2 * n - 1)).to(table) for n in grid)
    square = table[:-CLS_ENTRIES].unflatten(0, (span, span))
    with torch.autocast(table.device.type, enabled=False):
        square = torch.einsum("ip,jq,pqh->ijh", rows, columns, square)
    return torch.cat([square.flatten(0, 1), table[-CLS_ENTRIES:]])


def linear_table(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """A bias table for a `grid`, interpolated linearly; the entries of [CLS] stay."""
    span = int((len(table) - CLS_ENTRIES) ** 0.5)
    square = table[:-CLS_ENTRIES].unflatten(0, (span, span)).permute(2, 0, 1)[None]
    size = [2 * n - 1 for n in grid]
    square = F.interpolate(square, size=size, mode="bilinear")[0].permute(1, 2, 0)
    return torch.cat([square.flatten(0, 1), table[-CLS_ENTRIES:]])


def _fresh_table(side: int, heads: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros((2 * side - 1) ** 2 + CLS_ENTRIES, heads))


@lru_cache
def _resampling(span: int, target: int) -> np.ndarray:
    """(target, span) weights of a cubic spline through `span` values at `target` new distances.

    New distances beyond the spread ones take the outermost value.
    """
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        low, high = (low, q) if (1 - q ** (span // 2)) / (1 - q) > target // 2 else (q, high)
    spread = np.cumsum(q ** np.arange(span // 2))
    known = np.concatenate([-spread[::-1], [0.0], spread])
    wanted = np.arange(target) - target // 2
    spline = make_interp_spline(known, np.eye(span), k=min(3, span - 1))
    return spline(wanted.clip(known[0], known[-1]))
