import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sslbench.data.masks import CountMaskConfig, MaskConfig, block_mask, random_mask, smallest_block
from sslbench.data.rng import sample_rng
from sslbench.errors import UserError
from sslbench.settings import typed
from tests.data import official

DRAWS = 10_000
SIGMAS = 4  # of the sampling error that a measured mean may be off
grids = st.tuples(st.integers(1, 20), st.integers(1, 20))


@given(grids, st.floats(0, 1), st.integers(0, 10**6))
@settings(max_examples=60)
def test_block_masks_never_exceed_the_target(grid, ratio, index):
    target = ratio * grid[0] * grid[1]
    mask = block_mask(grid, target, sample_rng(0, 0, index))
    assert mask.shape == grid and mask.dtype == bool
    assert mask.sum() <= target
    assert np.array_equal(mask, block_mask(grid, target, sample_rng(0, 0, index)))


@given(grids, st.floats(0, 1), st.integers(0, 10**6))
@example((10, 20), 0.145, 0)  # 29 as iBOT multiplies, .145 * 200 = 28.999...
@settings(max_examples=40)
def test_random_masks_hit_the_count_exactly(grid, ratio, index):
    mask = random_mask(grid, ratio, sample_rng(0, 0, index))
    assert mask.shape == grid and mask.sum() == int(ratio * grid[0] * grid[1])


def test_random_masks_hide_every_patch_alike():
    """Each patch as often as another, and independently of its neighbours."""
    count, cells, masked = 2000, 48, 24
    masks = np.array([random_mask((6, 8), 0.5, sample_rng(7, 0, i)) for i in range(count)])
    assert masks.mean(0) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(count))
    spread = masked / 4 * (cells - masked) / (cells - 1)  # hypergeometric: of those in one half
    for half in (masks[:, :, :4], masks[:, :3], masks[:, ::2]):
        found = half.sum((1, 2)).var()
        assert found == pytest.approx(spread, abs=5 * spread * math.sqrt(2 / count))


def error(values, rounding):
    """How far the mean of `values` may be from a figure that was rounded to `rounding`."""
    return rounding / 2 + SIGMAS * np.std(values) / math.sqrt(len(values))


# Measured on the official generators with 20k draws.
@pytest.mark.parametrize(
    ("grid", "ratio", "realised"),
    [
        ((14, 14), 0.10, 0.090),
        ((14, 14), 0.20, 0.195),
        ((14, 14), 0.30, 0.292),
        ((14, 14), 0.40, 0.395),
        ((14, 14), 0.50, 0.498),
        ((7, 7), 0.10, 0.077),
        ((7, 7), 0.30, 0.284),
    ],
)
def test_realised_ratio_is_that_of_ibot(grid, ratio, realised):
    target = ratio * grid[0] * grid[1]
    shares = [block_mask(grid, target, sample_rng(1, 0, i)).mean() for i in range(DRAWS)]
    assert np.mean(shares) == pytest.approx(realised, abs=error(shares, 0.001))


def test_realised_count_is_that_of_beit():
    config = CountMaskConfig()
    counts = np.array(
        [config.draw((14, 14), 1, sample_rng(2, 0, i), 0).sum() for i in range(DRAWS)]
    )
    assert counts.max() == 75
    assert counts.mean() == pytest.approx(74.5, abs=error(counts, 0.1))
    assert counts.std() == pytest.approx(1.0, abs=0.05 + SIGMAS * 0.01)
    assert (counts == 75).mean() == pytest.approx(0.67, abs=error(counts == 75, 0.01))


def published_masks(grid, target, low, high, count, seed=0):
    """`count` masks (count, h, w) by BEiT sec. 2.3 and masking_generator.py, all grown at once.

    A try: an area uniform between `low` and what is left (at most `high`), a log-uniform aspect,
    a place uniform among those where the block lies inside; it counts if it is smaller than the
    grid both ways and brings one to all of what is left. Ten misses in a row end a mask.
    """
    rng, (rows, columns) = np.random.default_rng(seed), grid
    masks, misses = np.zeros((count, rows, columns), dtype=bool), np.zeros(count, dtype=int)
    while True:
        covered = masks.sum((1, 2))
        growing = (covered < target) & (misses < 10)
        if not growing.any():
            return masks
        room = np.minimum(target - covered, high)
        area = low + rng.random(count) * (room - low)
        aspect = np.exp(rng.uniform(-math.log(1 / 0.3), math.log(1 / 0.3), count))
        height, width = (np.sqrt(area * aspect).round(), np.sqrt(area / aspect).round())
        inside = (height < rows) & (width < columns)
        top, left = (
            rng.integers(0, np.where(inside, side - size, 0) + 1)
            for side, size in ((rows, height), (columns, width))
        )
        row, column = np.arange(rows), np.arange(columns)
        in_rows = (row >= top[:, None]) & (row < (top + height)[:, None])
        in_columns = (column >= left[:, None]) & (column < (left + width)[:, None])
        block = in_rows[:, :, None] & in_columns[:, None, :]
        fresh = (block & ~masks).sum((1, 2))
        taken = growing & inside & (fresh > 0) & (fresh <= room)
        masks[taken] |= block[taken]
        misses = np.where(taken, 0, misses + 1)


class Replayed(official.Draws):
    """The random numbers of `block_mask`: a table of tries for every block."""

    def __init__(self, rng):
        super().__init__()
        self.rng, self.row = rng, []

    def next_block(self):
        self.table, self.row = iter(self.rng.random((10, 4)).tolist()), []

    def uniform(self, low, high):
        if len(self.row) != 3:  # the first number of a try
            self.row = next(self.table)
        return low + (high - low) * self.row.pop(0)

    def randint(self, low, high):
        return int(self.row.pop(0) * (high + 1))


@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (6, 12), (28, 28)])
def test_masks_equal_those_of_the_official_loop_bit_for_bit(grid):
    for index in range(500):
        rng, draws = sample_rng(8, 0, index), Replayed(sample_rng(8, 0, index))
        target = grid[0] * grid[1] * (0.1 + 0.4 * index / 500)
        theirs = official.block_mask(*grid, target, draws)
        assert np.array_equal(block_mask(grid, target, rng), theirs)
        assert rng.random() == draws.rng.random()  # and nothing else was drawn


def traits(masks):
    """What can be seen of each mask of (n, h, w): (n, k)."""
    down, right = masks[:, 1:] != masks[:, :-1], masks[:, :, 1:] != masks[:, :, :-1]
    return np.column_stack(
        [
            masks.reshape(len(masks), -1),  # where it lies
            masks.sum((1, 2)),
            down.sum((1, 2)) + right.sum((1, 2)),  # the length of its edge
            down.sum((1, 2)) - right.sum((1, 2)),  # and whether it lies or stands
            masks.all(1).any(1),  # a column hidden from top to bottom
            masks.all(2).any(1),
        ]
    )


@pytest.mark.parametrize(
    ("grid", "target", "bounds"),
    [
        ((14, 14), 75, (16, None)),  # BEiT
        ((14, 14), 75, (4, 9)),
        ((14, 14), 0.3 * 196, (None, None)),  # iBOT
        ((7, 7), 0.5 * 49, (None, None)),  # iBOT's Swin
        ((6, 12), 20, (8, 12)),
    ],
)
def test_blocks_lie_where_the_published_generator_puts_them(grid, target, bounds):
    low = smallest_block(grid) if bounds[0] is None else bounds[0]
    theirs = traits(published_masks(grid, target, low, bounds[1] or math.inf, DRAWS))
    drawn = [block_mask(grid, target, sample_rng(3, 0, i), *bounds) for i in range(DRAWS // 2)]
    ours = traits(np.array(drawn))
    spread = np.sqrt(theirs.var(0) / len(theirs) + theirs.var(0) / len(ours))
    gap = np.abs(ours.mean(0) - theirs.mean(0))
    assert (gap <= (SIGMAS + 1) * spread + 1e-3).all(), (gap / (spread + 1e-9)).round(1)


def test_beits_bounds_are_those_of_its_blocks():
    config = CountMaskConfig(fraction=0.3, min_block=4, max_block=9)
    for index in range(20):
        mask = block_mask((14, 14), 59, sample_rng(6, 0, index), 4, 9)  # .3 of 196
        assert np.array_equal(config.draw((14, 14), 1, sample_rng(6, 0, index), 0), mask[None])


def test_the_smallest_block_follows_the_grid():
    """Trap T7: (min(h, w) // 3) squared, so 16 on 14 x 14 and 4 on Swin's 7 x 7."""
    sizes = {grid: smallest_block(grid) for grid in ((14, 14), (7, 7), (6, 4), (2, 2))}
    assert sizes == {(14, 14): 16, (7, 7): 4, (6, 4): 1, (2, 2): 1}


def test_ibot_leaves_half_of_the_views_whole_and_masks_the_others_by_a_tenth_to_a_half():
    config = MaskConfig()
    ratios = np.array([config.ratio(sample_rng(4, 0, i), 0) for i in range(DRAWS)])
    assert (ratios == 0).mean() == pytest.approx(0.5, abs=error(ratios == 0, 0))
    masked = ratios[ratios > 0]
    assert 0.1 <= masked.min() < 0.101 and 0.499 < masked.max() <= 0.5
    assert masked.mean() == pytest.approx(0.3, abs=error(masked, 0))


@pytest.mark.parametrize(("ratio_per", "mixed"), [("view", 0.5), ("image", 0.0)])
def test_the_views_of_an_image_have_ratios_of_their_own_or_share_one(ratio_per, mixed):
    """Disagreement D2: the code draws per view, the paper describes a choice per image."""
    config = MaskConfig(ratio_per=ratio_per)
    pairs = [config.draw((14, 14), 2, sample_rng(5, 0, i), 0).any((1, 2)) for i in range(600)]
    one_masked = np.mean([first != second for first, second in pairs])
    assert one_masked == pytest.approx(mixed, abs=0.07)
    assert np.mean(pairs) == pytest.approx(0.5, abs=0.07)


def test_nothing_is_masked_before_the_start_epoch():
    config = MaskConfig(ratios=((0.7, 0.05),), start_epoch=1.5, kind="random")
    shares = [config.draw((14, 14), 1, sample_rng(0, e, 0), e).mean() for e in range(4)]
    assert shares[:2] == [0, 0] and min(shares[2:]) > 0.6


@pytest.mark.parametrize(
    "config, values, words",
    [
        (MaskConfig, {"ratio_per": "crop"}, "mask.ratio_per='crop'"),
        (MaskConfig, {"kind": "blok"}, "mask.kind='blok': did you mean 'block'"),
        (MaskConfig, {"ratios": []}, "mask.ratios=.*too few values"),
        (MaskConfig, {"ratios": [[0.3, 0.4]]}, r"0\.3 \+- 0\.4 must lie in \[0, 1\]"),
        (MaskConfig, {"ratios": [[0.9, 0.2]]}, r"0\.9 \+- 0\.2 must lie in \[0, 1\]"),
        (MaskConfig, {"ratios": [[1.1, 0]]}, "mask.ratios=1.1: must be less than or equal to 1"),
        (MaskConfig, {"start_epoch": -1}, "mask.start_epoch=-1: must be greater"),
        (CountMaskConfig, {"fraction": 0}, "mask.fraction=0: must be greater than 0"),
        (CountMaskConfig, {"fraction": 1.01}, "mask.fraction=1.01: must be less"),
        (CountMaskConfig, {"min_block": 0}, "mask.min_block=0: must be greater"),
        (CountMaskConfig, {"min_block": 20, "max_block": 10}, "min_block=20 must not be larger"),
    ],
)
def test_settings_that_mask_nothing_sensible_are_refused(config, values, words):
    with pytest.raises(UserError, match=words):
        typed(config, values, "mask")


def test_the_papers_ratios_are_taken():
    for ratios in ([[0.0, 0.0], [0.3, 0.2]], [[0.7, 0.05]], [[0.75, 0.25]], [[0.3, 0.3]]):
        assert typed(MaskConfig, {"ratios": ratios}, "mask").ratios[-1] == tuple(ratios[-1])
