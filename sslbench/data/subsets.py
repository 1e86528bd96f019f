"""Parts of a training set that are a function of its labels, the same for every model."""

from __future__ import annotations

import numpy as np

HELD_OUT = int.from_bytes(b"held", "big")  # a stream apart from those of other subsets


def held_out(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the images that are kept and of those held out, ascending int64.

    labels: integers (N,); share: of every class's images that is held out, in [0, 1). Above 0 at
    least one image of a class is held out, and at least one is always kept: a class with one image
    keeps it. Which ones is a function of the labels alone.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    for c in np.unique(labels) if share > 0 else ():
        members = np.flatnonzero(labels == c)
        count = min(len(members) - 1, max(1, round(share * len(members))))
        order = np.random.default_rng([HELD_OUT, int(c) % 2**64]).permutation(members)
        chosen[order[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
