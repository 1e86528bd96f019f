"""Counter-based randomness: every draw is a pure function of (seed, epoch, index).

A Philox stream is addressed instead of advanced, so crops, colours and masks do not depend on the
number of workers, the number of processes or a restart (recipes.md traps T20 and T21).
"""

from __future__ import annotations

import hashlib

import numpy as np

# The second key word keeps purposes apart; large, so that no index or epoch can equal it.
SAMPLE = int.from_bytes(b"sample", "big")
ORDER = int.from_bytes(b"order", "big")


def fitting(seed: int, bits: int = 64) -> int:
    """`seed` for a generator that takes `bits` bits: itself where it fits, else a hash of it."""
    if seed.bit_length() <= bits:
        return seed
    return int(hashlib.sha256(str(seed).encode()).hexdigest(), 16) % 2**bits


def _stream(seed: int, purpose: int, epoch: int, index: int) -> np.random.Generator:
    """The stream at (epoch, index): 2^128 draws before the next one begins."""
    key = np.array([fitting(seed), purpose], dtype=np.uint64)
    counter = np.array([0, 0, index, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Generator for everything drawn about image `index` in `epoch`; all three are >= 0."""
    return _stream(seed, SAMPLE, epoch, index)


def order_rng(seed: int, epoch: int) -> np.random.Generator:
    """Generator for the order of the images in `epoch`."""
    return _stream(seed, ORDER, epoch, 0)
