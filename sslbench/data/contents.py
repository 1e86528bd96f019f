"""Hashes of file contents, computed once and cached.

A dataset is identified by its content, because different sets can have equal names, sizes and
labels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sslbench.data.remembered import FAILED, remembered, stamp_of, stamps_of

FULL_LIMIT = 16 * 2**30  # bytes of a set up to which all bytes are hashed
SAMPLE = 2**15  # bytes hashed at the start, middle and end of each file of a larger set
MISSING = "missing"


def content_hashes(root: Path, names: Sequence[str]) -> list[str]:
    """Return a hash of the content of each file `root`/name, in order; "missing" if unreadable.

    BLAKE2b over all bytes; for a set of more than 16 GiB, over each file's size and three samples
    of 32 KiB: start, middle and end. Equal contents give equal hashes in any folder, as long as
    both sets are on the same side of that limit.
    """
    stamps = stamps_of(root, names)
    full = sum(stamp[0] for stamp in stamps if stamp) <= FULL_LIMIT
    function_id = "blake2b" if full else "blake2b of samples"
    results = remembered(root, names, function_id, partial(_hash, full=full), stamps)
    return [MISSING if text == FAILED else text for text in results]


def hashes(root: Path, names: Sequence[str]) -> list[str]:
    """Return `content_hashes` of a set of at most 16 GiB, without the cache."""
    results = [_hash(str(root / name), full=True) for name in names]
    return [MISSING if text == FAILED else text for text in results]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of all bytes of a file, as publishers give it; cached. Raises OSError."""
    return remembered(path.parent, [path.name], "sha256", _sha256)[0]


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(path: str, full: bool) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    if stamp_of(path) is None:
        return FAILED
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (a million of them)
            size = os.fstat(file.fileno()).st_size
            if full or size <= 3 * SAMPLE:
                while chunk := file.read(2**20):
                    hasher.update(chunk)
            else:
                hasher.update(str(size).encode())
                for offset in (0, (size - SAMPLE) // 2, size - SAMPLE):
                    file.seek(offset)
                    hasher.update(file.read(SAMPLE))
    except OSError:
        return FAILED
    return hasher.hexdigest()
