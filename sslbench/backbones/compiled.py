"""Blocks by torch.compile, with shapes that stay the same from batch to batch.

Drop path then scales the branches of samples by factors that are drawn outside, where otherwise
those that it drops are not computed. The tokens read of a last block are padded to one of a few
numbers. Each function is compiled once for each shape; all blocks of its shapes share the result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from sslbench.backbones.sampling import factors
from sslbench.system.device import sent

SIZES = 8  # torch compiles a function for so many shapes by default


@cache
def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of blocks and tensors as torch.compile makes it, when it is first called."""
    return torch.compile(function, dynamic=False)


def drops(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of a block's two branches for each sample of x, (samples, 1, 1)."""
    first, second = drawn(block, x)
    return sent(first, x.device)[:, None, None], sent(second, x.device)[:, None, None]


def drawn(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """As `drops`, (samples,) on the CPU."""
    paths = (block.get_submodule(name) for name in ("drop_path1", "drop_path2"))
    first, second = (factors(path, len(x), x) for path in paths)
    return first, second


def padded(read: Tensor, images: int, patches: int) -> Tensor:
    """Places of `images` [CLS] and of masked patches, with 0s up to one of `SIZES` lengths.

    read: int64 (S,); patches: of all images together, an eighth of which is the shortest.
    """
    step = -(-patches // SIZES)
    eighths = max(1, -(-(len(read) - images) // step))
    return torch.cat([read, read.new_zeros(images + eighths * step - len(read))])
