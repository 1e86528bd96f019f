"""Counter-based randomness: every draw is a pure function of its address.

A Philox stream is addressed, by (seed, epoch, index, copy), instead of advanced, so crops, colours
and masks do not depend on the number of workers, the number of processes or a restart.
"""

from __future__ import annotations

import hashlib

import numpy as np

# The second key word separates purposes; it is larger than any index or epoch.
SAMPLE = int.from_bytes(b"sample", "big")
ORDER = int.from_bytes(b"order", "big")


def fitting(seed: int, bits: int = 64) -> int:
    """Return `seed` if it fits into `bits` bits, else a hash of it that does."""
    if seed.bit_length() <= bits:
        return seed
    return int(hashlib.sha256(str(seed).encode()).hexdigest(), 16) % 2**bits


def _stream(seed: int, purpose: int, epoch: int, index: int, copy: int = 0) -> np.random.Generator:
    """Return the stream at (epoch, index, copy); the next copy's begins 2^66 draws later."""
    key = np.array([fitting(seed), purpose], dtype=np.uint64)
    counter = np.array([0, copy, index, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def sample_rng(seed: int, epoch: int, index: int, copy: int = 0) -> np.random.Generator:
    """Return the generator for all draws of image `index` in `epoch`; all arguments are >= 0.

    copy: which of the copies of the image that one epoch draws (repeated augmentation).
    """
    return _stream(seed, SAMPLE, epoch, index, copy)


def order_rng(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator for the order of the images in `epoch`."""
    return _stream(seed, ORDER, epoch, 0)
