"""Random masks of blocks or single patches, at the papers' ratios.

Sources: BEiT sec. 2.3 and beit/masking_generator.py:55-92; iBOT sec. 3.1 and ibot/loader.py:33-115.
Masks are bool (h, w), True = masked. The target is an upper bound: only two of three draws reach
BEiT's 75 of 196 patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import AfterValidator

from sslbench.settings import Epochs, Probability, setting

Grid = tuple[int, int]

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
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> np.ndarray:
    """Return a mask of overlapping rectangles over at most `target` patches, bool (h, w).

    Blocks are added until the target is reached or none of `TRIES` positions fits.
    """
    mask = np.zeros(grid, dtype=bool)
    low = smallest_block(grid) if min_block is None else min_block
    count = 0
    while count < target:
        room = target - count if max_block is None else min(target - count, max_block)
        added = _add_block(mask, low, room, aspect, rng)
        if not added:
            break
        count += added
    return mask


def _add_block(
    mask: np.ndarray, low: float, room: float, aspect: tuple[float, float], rng: np.random.Generator
) -> int:
    """Add the first of `TRIES` random blocks with 1 to `room` new patches; return their number."""
    rows, columns = mask.shape
    draws = rng.random((TRIES, 4))
    # if room < low, the bounds are reversed and the area still lies between them, as in
    # beit/masking_generator.py, whose random.uniform accepts reversed bounds
    area = low + (room - low) * draws[:, 0]
    log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
    root = np.exp(0.5 * (log_low + (log_high - log_low) * draws[:, 1]))
    side = np.sqrt(area)
    heights = np.rint(side * root).astype(int).tolist()
    widths = np.rint(side / root).astype(int).tolist()
    for height, width, down, right in zip(
        heights, widths, draws[:, 2].tolist(), draws[:, 3].tolist(), strict=True
    ):
        if height >= rows or width >= columns:
            continue
        top, left = int(down * (rows - height + 1)), int(right * (columns - width + 1))
        block = mask[top : top + height, left : left + width]
        added = height * width - int(np.count_nonzero(block))
        if 0 < added <= room:
            block[:] = True
            return added
    return 0


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
        masks = []
        for _ in range(views):
            ratio = self.ratio(rng, epoch) if shared is None else shared
            masks.append(self._mask(grid, ratio, rng))
        return np.stack(masks)

    def _mask(self, grid: Grid, ratio: float, rng: np.random.Generator) -> np.ndarray:
        if self.kind == "random":
            return random_mask(grid, ratio, rng)
        return block_mask(grid, ratio * grid[0] * grid[1], rng)


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
        masks = [
            block_mask(grid, target, rng, self.min_block, self.max_block) for _ in range(views)
        ]
        return np.stack(masks)
