"""What files hold, as hashes that are computed once and remembered.

A dataset is its content: names, sizes and labels do not tell two sets apart.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sslbench.data.remembered import FAILED, remembered, stamp_of

WHOLE_LIMIT = 16 * 2**30  # bytes of a set whose files are read whole
SAMPLE = 2**15  # bytes at the start, in the middle and at the end of each file of a larger set
MISSING = "missing"


def content_hashes(root: Path, names: Sequence[str]) -> list[str]:
    """A hash of the content of each file `root`/name, in order; "missing" where there is none.

    BLAKE2b over all bytes. In a set of more than 16 GiB it is over each file's size and three
    samples of 32 KiB: start, middle and end. Equal contents give equal hashes wherever they lie,
    as long as both sets are on the same side of that limit.
    """
    base = str(Path(root).absolute())
    stamps = (stamp_of(os.path.join(base, name)) for name in names)  # noqa: PTH118 (a million)
    whole = sum(stamp[0] for stamp in stamps if stamp) <= WHOLE_LIMIT
    what = "blake2b" if whole else "blake2b of samples"
    found = remembered(root, names, what, partial(_hash, whole=whole))
    return [MISSING if text == FAILED else text for text in found]


def hashes(root: Path, names: Sequence[str]) -> list[str]:
    """`content_hashes` of a set of at most 16 GiB, computed now and not remembered."""
    found = [_hash(str(root / name), whole=True) for name in names]
    return [MISSING if text == FAILED else text for text in found]


def file_sha256(path: Path) -> str:
    """What `sha256sum` prints for a file, remembered as `content_hashes` are; OSError if it fails.

    Unlike those it is what publishers give, and always over all bytes.
    """
    return remembered(path.parent, [path.name], "sha256", _sha256)[0]


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(path: str, whole: bool) -> str:
    sha = hashlib.blake2b(digest_size=16)
    if stamp_of(path) is None:
        return FAILED
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (a million of them)
            size = os.fstat(file.fileno()).st_size
            if whole or size <= 3 * SAMPLE:
                while chunk := file.read(2**20):
                    sha.update(chunk)
            else:
                sha.update(str(size).encode())
                for place in (0, (size - SAMPLE) // 2, size - SAMPLE):
                    file.seek(place)
                    sha.update(file.read(SAMPLE))
    except OSError:
        return FAILED
    return sha.hexdigest()
