"""A cache of facts about files, valid until the files change.

Hashing 1.3 million files or decoding the 118,000 images of COCO takes minutes, so results are
cached under everything that changes when a file is written: path, size, mtime, ctime, inode and
device.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from sslbench.errors import UserError
from sslbench.storage.home import HOME, home
from sslbench.system.printing import printable

RACY_SECONDS = 2.0  # a file written this recently may be written again under the same mtime
PROGRESS_SECONDS = 5.0
FAILED = "!"  # prefix of the result for a file that cannot be read; it is not cached
THREADS = 8  # reading, decoding and hashing release the interpreter lock
CHUNK = 64  # files that a thread takes at a time: to hand one over costs more than to hash it
log = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int, int]  # size, mtime_ns, ctime_ns, inode, device
Function = Callable[[str], str]


def remembered(
    root: Path,
    names: Sequence[str],
    function_id: str,
    function: Function,
    stamps: Sequence[Stamp | None] | None = None,
) -> list[str]:
    """Return `function(path)` of each file `root`/name, called only for new and changed files.

    function_id: name and version of `function`; stamps: `stamps_of` the files, where the caller
    has just taken them. Failures and results for anything but regular files are not cached. If the
    cache cannot be used, a warning is logged and all results are computed.
    """
    base = str(Path(root).absolute())
    stamps = stamps_of(root, names) if stamps is None else stamps
    # as bytes, because text in SQLite must be UTF-8
    root_key, keys = os.fsencode(base), list(map(os.fsencode, names))
    with _database() as database:
        cached = _load(database, root_key, function_id)
        results = [
            cached.get((key, *stamp), "") if stamp else ""
            for key, stamp in zip(keys, stamps, strict=True)
        ]
        todo = [k for k, text in enumerate(results) if not text]
        computed = _compute([_path(base, names[k]) for k in todo], function, base)
        for k, text in zip(todo, computed, strict=True):
            results[k] = text
        _store(database, root_key, function_id, [(keys[k], stamps[k], results[k]) for k in todo])
    return results


def stamps_of(root: Path, names: Sequence[str]) -> list[Stamp | None]:
    """Return `stamp_of` each file `root`/name."""
    base = str(Path(root).absolute())
    return [stamp_of(_path(base, name)) for name in names]


def _path(base: str, name: str) -> str:
    return os.path.join(base, name)  # noqa: PTH118 (a million of them)


def stamp_of(path: str) -> Stamp | None:
    """Return what changes when the file is written; None if it is not a regular file."""
    try:
        s = os.stat(path)  # noqa: PTH116 (a million of them)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(s.st_mode):
        return None
    limit = 2**63  # of SQLite's integers; some network drives use larger numbers
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino % limit, s.st_dev % limit


def _compute(paths: Sequence[str], function: Function, base: str) -> Iterator[str]:
    """Yield the results in order and log the progress if it takes long."""
    start = logged = time.monotonic()
    size = max(1, min(CHUNK, len(paths) // (4 * THREADS)))
    chunks = [paths[k : k + size] for k in range(0, len(paths), size)]
    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for texts in pool.map(lambda chunk: [function(path) for path in chunk], chunks):
            yield from texts
            done += len(texts)
            if (now := time.monotonic()) - logged > PROGRESS_SECONDS:
                logged, left = now, (now - start) / done * (len(paths) - done)
                log.warning(
                    "reading %s once to identify its content: %d of %d files, about %.0f s left",
                    printable(base), done, len(paths), left,
                )  # fmt: skip


@contextmanager
def _database() -> Iterator[sqlite3.Connection | None]:
    """Open the cache file; None if it cannot be used."""
    try:
        folder = home()
        folder.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(folder / "remembered.sqlite", timeout=60)
        database.execute(
            "CREATE TABLE IF NOT EXISTS files (root, what, name, size, mtime, ctime, inode, "
            "device, found, PRIMARY KEY (root, what, name)) WITHOUT ROWID"
        )
    except (OSError, sqlite3.Error, UserError) as error:
        _warn(error)
        yield None
        return
    with closing(database):
        yield database


def _load(
    database: sqlite3.Connection | None, root_key: bytes, function_id: str
) -> dict[tuple, str]:
    if database is None:
        return {}
    try:
        rows = database.execute(
            "SELECT name, size, mtime, ctime, inode, device, found FROM files "
            "WHERE root = ? AND what = ?",
            (root_key, function_id),
        ).fetchall()
    except sqlite3.Error as error:
        _warn(error)
        return {}
    return {tuple(row[:-1]): row[-1] for row in rows}


def _store(
    database: sqlite3.Connection | None,
    root_key: bytes,
    function_id: str,
    results: Sequence[tuple[bytes, Stamp | None, str]],
) -> None:
    latest = time.time_ns() - int(RACY_SECONDS * 1e9)
    rows = [
        (root_key, function_id, name, *stamp, text)
        for name, stamp, text in results
        if stamp and max(stamp[1], stamp[2]) < latest and not text.startswith(FAILED)
    ]
    if database is None or not rows:
        return
    try:
        with database:
            placeholders = ", ".join("?" * 9)
            database.executemany(f"INSERT OR REPLACE INTO files VALUES ({placeholders})", rows)
    except sqlite3.Error as error:
        _warn(error)


def _warn(error: Exception) -> None:
    remedy = "" if HOME in str(error) else f"; set {HOME} to a folder that you may write to"
    log.warning("contents of files cannot be cached (%s)%s", error, remedy)
