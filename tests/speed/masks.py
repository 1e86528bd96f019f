"""Block masks, against the official loop over the patches of each block."""

from __future__ import annotations

import numpy as np

from sslbench.data.masks import MaskConfig
from sslbench.data.rng import sample_rng
from tests.data import official
from tests.speed.race import Race

IMAGES, VIEWS, SIDE = 1000, 2, 14


def block_masks() -> Race:
    config, draws = MaskConfig(), official.Draws(0)
    generators = [sample_rng(0, 0, index) for index in range(IMAGES)]  # made anyway for the crops

    def ours() -> list[np.ndarray]:
        return [config.draw((SIDE, SIDE), VIEWS, rng, 0) for rng in generators]

    def theirs() -> list[list[np.ndarray]]:
        return [_official(draws, config.ratios) for _ in range(IMAGES)]

    shares = [np.mean(work()) for work in (ours, theirs)]
    if abs(shares[0] - shares[1]) > 0.02:  # three standard errors
        raise AssertionError(f"different shares of masked patches: {shares}")
    return Race(
        "block-masks",
        f"iBOT's masks of {VIEWS} global crops of {SIDE} x {SIDE} patches, {IMAGES} images",
        ours,
        {"official": theirs},
        {"official": 4.0},
        "images",
        IMAGES,
        "equal shares of masked patches; the tests hold equality bit for bit for equal draws",
    )


def _official(draws: official.Draws, ratios: tuple[tuple[float, float], ...]) -> list[np.ndarray]:
    targets = (official.ratio(draws, ratios) * SIDE * SIDE for _ in range(VIEWS))
    return [official.block_mask(SIDE, SIDE, high, draws) for high in targets]
