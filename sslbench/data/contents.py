"""What files hold, as hashes that are computed once and remembered.

A dataset is its content: names, sizes and labels do not tell two sets apart. Reading 1.3 million
files at every start would take minutes, so a hash is remembered under everything that changes when
a file is written: path, size, mtime, ctime, inode and device.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from sslbench.data.home import home
from sslbench.data.reading import printable

WHOLE_LIMIT = 16 * 2**30  # bytes of a set whose files are read whole
SAMPLE = 2**15  # bytes at the start, in the middle and at the end of each file of a larger set
RACY_SECONDS = 2.0  # a file written this recently may be written again under the same mtime
SAY_SECONDS = 5.0
MISSING = "missing"
THREADS = 8  # reading waits for disks, and hashing releases the interpreter
log = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int, int]  # size, mtime_ns, ctime_ns, inode, device


def content_hashes(root: Path, names: Sequence[str]) -> list[str]:
    """A hash of the content of each file `root`/name, in order; "missing" where there is none.

    BLAKE2b over all bytes. In a set of more than 16 GiB it is over each file's size and three
    samples of 32 KiB: start, middle and end. Equal contents give equal hashes wherever they lie,
    as long as both sets are on the same side of that limit.
    """
    base = str(Path(root).absolute())
    paths = [os.path.join(base, name) for name in names]  # noqa: PTH118 (a million of them)
    stamps = [_stamp(path) for path in paths]
    whole = sum(stamp[0] for stamp in stamps if stamp) <= WHOLE_LIMIT
    place, keys = os.fsencode(base), list(map(os.fsencode, names))  # SQLite's text is UTF-8 only
    with _memory() as memory:
        known = _recall(memory, place, whole)
        hashes = [
            MISSING if stamp is None else known.get((key, *stamp), "")
            for key, stamp in zip(keys, stamps, strict=True)
        ]
        todo = [k for k, found in enumerate(hashes) if not found]
        for k, found in zip(todo, _hash_all([paths[k] for k in todo], whole, base), strict=True):
            hashes[k] = found
        fresh = [(keys[k], stamps[k], hashes[k]) for k in todo if hashes[k] != MISSING]
        _remember(memory, place, whole, fresh)
    return hashes


def file_sha256(path: Path) -> str:
    """What `sha256sum` prints for a file, remembered as `content_hashes` are; OSError if it fails.

    Unlike those it is what publishers give, and always over all bytes.
    """
    path = path.absolute()
    place, name, kind = os.fsencode(path.parent), os.fsencode(path.name), "sha256"
    stamp = _stamp(str(path))
    with _memory() as memory:
        known = _recall(memory, place, kind)
        if stamp is not None and (found := known.get((name, *stamp))):
            return found
        with path.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        _remember(memory, place, kind, [(name, stamp, sha)])
    return sha


def _stamp(path: str) -> Stamp | None:
    try:
        s = os.stat(path)  # noqa: PTH116 (a million of them)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(s.st_mode):  # a pipe would wait forever
        return None
    limit = 2**63  # of SQLite's integers; some network drives number files beyond
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino % limit, s.st_dev % limit


def _hash_all(paths: Sequence[str], whole: bool, base: str) -> Iterator[str]:
    """The hashes of `paths` in order, with a line in the log where they take long."""
    start = spoken = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        hashes = pool.map(lambda path: _hash(path, whole), paths, chunksize=64)
        for done, found in enumerate(hashes, start=1):
            yield found
            if (now := time.monotonic()) - spoken > SAY_SECONDS:
                spoken, left = now, (now - start) / done * (len(paths) - done)
                log.warning(
                    "reading %s once, to know its content: %d of %d files, about %.0f s left",
                    printable(base), done, len(paths), left,
                )  # fmt: skip


def _hash(path: str, whole: bool) -> str:
    sha = hashlib.blake2b(digest_size=16)
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
        return MISSING
    return sha.hexdigest()


@contextmanager
def _memory() -> Iterator[sqlite3.Connection | None]:
    """The file of remembered hashes; None where it cannot be kept, which only costs time."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        opened = sqlite3.connect(home() / "contents.sqlite", timeout=60)
        opened.execute(
            "CREATE TABLE IF NOT EXISTS files (root, whole, name, size, mtime, ctime, inode, "
            "device, hash, PRIMARY KEY (root, whole, name)) WITHOUT ROWID"
        )
    except (OSError, sqlite3.Error) as error:
        log.warning("contents of files cannot be remembered in %s (%s)", home(), error)
        yield None
        return
    with closing(opened):
        yield opened


def _recall(memory: sqlite3.Connection | None, base: bytes, whole: bool | str) -> dict[tuple, str]:
    if memory is None:
        return {}
    try:
        rows = memory.execute(
            "SELECT name, size, mtime, ctime, inode, device, hash FROM files "
            "WHERE root = ? AND whole = ?",
            (base, whole),
        ).fetchall()
    except sqlite3.Error as error:
        log.warning("what is remembered in %s cannot be read (%s)", home(), error)
        return {}
    return {tuple(row[:-1]): row[-1] for row in rows}


def _remember(
    memory: sqlite3.Connection | None,
    base: bytes,
    whole: bool | str,
    fresh: Sequence[tuple[bytes, Stamp | None, str]],
) -> None:
    settled = time.time_ns() - int(RACY_SECONDS * 1e9)
    rows = [
        (base, whole, name, *stamp, found)
        for name, stamp, found in fresh
        if stamp is not None and max(stamp[1], stamp[2]) < settled
    ]
    if memory is None or not rows:
        return
    try:
        with memory:
            memory.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
    except sqlite3.Error as error:
        log.warning("contents of files cannot be remembered in %s (%s)", home(), error)
