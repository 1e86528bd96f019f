"""Random masks of blocks or single patches, at the papers' ratios.

Sources: BEiT sec. 2.3 and beit/masking_generator.py:55-92; iBOT sec. 3.1 and ibot/loader.py:33-115.
Masks are bool (h, w), True = masked. The target is an upper bound: only two of three draws reach
BEiT's 75 of 196 patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import AfterValidator

from sslbench.settings import Epochs, Probability, setting

Grid = tuple[int, int]

# Half the logarithm of a block's aspect, U(.3, 1 / .3): its least value and its range.
ROOTS = (0.5 * math.log(0.3), math.log(1 / 0.3))
TRIES = 10  # positions tried for one block before the mask stays as it is


class Masking(Protocol):
    """Draws the masks of one image, bool (views, h, w); picklable and free of global state."""

    def draw(self, grid: Grid, views: int, rng: np.random.Generator, epoch: int) -> np.ndarray: ...


def smallest_block(grid: Grid) -> int:
    """Return the least area of a block: 16 on 14 x 14, 4 on 7 x 7 (ibot/loader.py:72-77)."""
    return max(1, (min(grid) // 3) ** 2)


def block_mask(
    grid: Grid,
    target: float,
    rng: np.random.Generator,
    min_block: int | None = None,
    max_block: int | None = None,
) -> np.ndarray:
    """Return a mask of overlapping rectangles over at most `target` patches, bool (h, w).

    Blocks are added until the target is reached or none of `TRIES` positions fits.
    """
    return _unpacked([_block_bits(grid, target, rng, min_block, max_block)], grid)[0]


def _block_bits(
    grid: Grid,
    target: float,
    rng: np.random.Generator,
    min_block: int | None = None,
    max_block: int | None = None,
) -> int:
    """`block_mask` as an integer whose bit row * w + column is a patch: fast to move and count."""
    low = smallest_block(grid) if min_block is None else min_block
    mask = count = 0
    while count < target:
        room = target - count if max_block is None else min(target - count, max_block)
        added = _new_patches(mask, grid, low, room, rng)
        if not added:
            break
        mask |= added
        count += added.bit_count()
    return mask


def _new_patches(mask: int, grid: Grid, low: float, room: float, rng: np.random.Generator) -> int:
    """The new patches of the first of `TRIES` random blocks with 1 to `room` of them, as bits."""
    rows, columns = grid
    # if room < low, the bounds are reversed and the area still lies between them, as in
    # beit/masking_generator.py, whose random.uniform accepts reversed bounds
    for share, shape, down, right in rng.random((TRIES, 4)).tolist():
        side, stretch = math.sqrt(low + (room - low) * share), math.exp(ROOTS[0] + ROOTS[1] * shape)
        height, width = round(side * stretch), round(side / stretch)
        if height < rows and width < columns:
            top, left = int(down * (rows - height + 1)), int(right * (columns - width + 1))
            added = _block(height, width, columns) << (top * columns + left) & ~mask
            if 0 < added.bit_count() <= room:
                return added
    return 0


@lru_cache(maxsize=4096)
def _block(height: int, width: int, columns: int) -> int:
    """A block in the top left corner, as bits."""
    return sum(((1 << width) - 1) << (row * columns) for row in range(height))


def _unpacked(masks: Sequence[int], grid: Grid) -> np.ndarray:
    """Masks as integers -> bool (masks, h, w)."""
    cells = grid[0] * grid[1]
    joined = sum(mask << (k * cells) for k, mask in enumerate(masks))
    data = np.frombuffer(joined.to_bytes(-(-cells * len(masks) // 8), "little"), dtype=np.uint8)
    bits = np.unpackbits(data, count=cells * len(masks), bitorder="little")
    return bits.view(bool).reshape(-1, *grid)


def random_mask(grid: Grid, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Return a mask of int(ratio * h * w) single patches, bool (h, w) (ibot/loader.py:102-107)."""
    cells = grid[0] * grid[1]
    mask = np.zeros(cells, dtype=bool)
    # multiplied in the official order, because ratio * cells may round to the next integer
    mask[rng.permutation(cells)[: max(0, int(ratio * grid[0] * grid[1]))]] = True
    return mask.reshape(grid)


def _within(ratio: tuple[float, float]) -> tuple[float, float]:
    mean, spread = ratio
    if spread > mean or mean + spread > 1 + 1e-9:
        raise ValueError(f"{mean:g} +- {spread:g} must lie in [0, 1]")
    return ratio


Ratio = Annotated[tuple[Probability, Probability], AfterValidator(_within)]


@dataclass(frozen=True)
class MaskConfig:
    """iBOT's masks, drawn independently for every view (ibot/loader.py:33-65).

    ratios: (mean, spread) pairs. Each pair draws U(mean - spread, mean + spread) and one of the
    draws is chosen, so by default half of the views are not masked and the others at U(.1, .5).
    ratio_per: "view" as in the official code, "image" as the paper describes it.
    """

    kind: Annotated[
        Literal["block", "random"], setting("masks of rectangles or of single patches")
    ] = "block"
    ratios: Annotated[
        tuple[Ratio, ...],
        setting("mean and spread of the masked share; one pair is drawn", min_length=1),
    ] = ((0.0, 0.0), (0.3, 0.2))
    start_epoch: Annotated[Epochs, setting("nothing is masked before it", "epochs")] = 0
    ratio_per: Annotated[Literal["view", "image"], setting("unit that draws a share")] = "view"

    def ratio(self, rng: np.random.Generator, epoch: int) -> float:
        """Draw the target ratio of one view; 0 before `start_epoch`."""
        ratios = [mean + spread * (2 * rng.random() - 1) for mean, spread in self.ratios]
        ratio = ratios[int(rng.integers(len(ratios)))]
        return 0.0 if epoch < self.start_epoch else ratio

    def draw(self, grid: Grid, views: int, rng: np.random.Generator, epoch: int) -> np.ndarray:
        """Draw the masks of all views of one image, bool (views, h, w)."""
        shared = self.ratio(rng, epoch) if self.ratio_per == "image" else None
        # drawn one by one: the ratio of a view follows the mask of the view before
        ratios = (self.ratio(rng, epoch) if shared is None else shared for _ in range(views))
        if self.kind == "random":
            return np.stack([random_mask(grid, ratio, rng) for ratio in ratios])
        masks = [_block_bits(grid, ratio * grid[0] * grid[1], rng) for ratio in ratios]
        return _unpacked(masks, grid)


@dataclass(frozen=True)
class CountMaskConfig:
    """BEiT's masks: blocks up to the same number of patches in every image (beit/datasets.py:65).

    fraction: 75 of 14 x 14 in the paper.
    """

    fraction: Annotated[float, setting("masked share of all patches, at most", gt=0, le=1)] = (
        75 / 196
    )
    min_block: Annotated[
        int | None, setting("smallest block; None: by the grid", "patches", ge=1)
    ] = None
    max_block: Annotated[int | None, setting("largest block; None: no bound", "patches", ge=1)] = (
        None
    )

    def __post_init__(self) -> None:
        if self.min_block and self.max_block and self.min_block > self.max_block:
            raise ValueError(
                f"min_block={self.min_block} must not be larger than max_block={self.max_block}"
            )

    def draw(self, grid: Grid, views: int, rng: np.random.Generator, epoch: int) -> np.ndarray:
        """Draw the masks of all views of one image, bool (views, h, w)."""
        target = round(self.fraction * grid[0] * grid[1])
        bounds = self.min_block, self.max_block
        return _unpacked([_block_bits(grid, target, rng, *bounds) for _ in range(views)], grid)
