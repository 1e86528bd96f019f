"""What was found out about files, kept until they change.

Hashing 1.3 million files or decoding the 118,000 images of COCO takes minutes, so what is found is
remembered under everything that changes when a file is written: path, size, mtime, ctime, inode
and device.
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
SAY_SECONDS = 5.0
FAILED = "!"  # begins what is found where a file cannot be read, which may be different tomorrow
THREADS = 8  # disks, decoders and hashes release the interpreter
log = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int, int]  # size, mtime_ns, ctime_ns, inode, device
Find = Callable[[str], str]


def remembered(root: Path, names: Sequence[str], what: str, find: Find) -> list[str]:
    """`find(path)` of each file `root`/name, in order, called for new and changed files only.

    what: names `find` and its version. Failures are not remembered, nor is anything of what is not
    a regular file: a folder, or a pipe, which would wait forever. Where nothing can be remembered
    it only costs time.
    """
    base = str(Path(root).absolute())
    paths = [os.path.join(base, name) for name in names]  # noqa: PTH118 (a million of them)
    stamps = [stamp_of(path) for path in paths]
    place, keys = os.fsencode(base), list(map(os.fsencode, names))  # SQLite's text is UTF-8 only
    with _memory() as memory:
        known = _recall(memory, place, what)
        found = [
            known.get((key, *stamp), "") if stamp else ""
            for key, stamp in zip(keys, stamps, strict=True)
        ]
        todo = [k for k, text in enumerate(found) if not text]
        for k, text in zip(todo, _find_all([paths[k] for k in todo], find, base), strict=True):
            found[k] = text
        _remember(memory, place, what, [(keys[k], stamps[k], found[k]) for k in todo])
    return found


def stamp_of(path: str) -> Stamp | None:
    """What changes when the file is written; None for what is not a regular file."""
    try:
        s = os.stat(path)  # noqa: PTH116 (a million of them)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(s.st_mode):
        return None
    limit = 2**63  # of SQLite's integers; some network drives number files beyond
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino % limit, s.st_dev % limit


def _find_all(paths: Sequence[str], find: Find, base: str) -> Iterator[str]:
    """What is found, in order, with a line in the log where it takes long."""
    start = spoken = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        for done, text in enumerate(pool.map(find, paths), start=1):
            yield text
            if (now := time.monotonic()) - spoken > SAY_SECONDS:
                spoken, left = now, (now - start) / done * (len(paths) - done)
                log.warning(
                    "reading %s once, to know its content: %d of %d files, about %.0f s left",
                    printable(base), done, len(paths), left,
                )  # fmt: skip


@contextmanager
def _memory() -> Iterator[sqlite3.Connection | None]:
    """The file of what was found; None where it cannot be kept."""
    try:
        folder = home()
        folder.mkdir(parents=True, exist_ok=True)
        opened = sqlite3.connect(folder / "remembered.sqlite", timeout=60)
        opened.execute(
            "CREATE TABLE IF NOT EXISTS files (root, what, name, size, mtime, ctime, inode, "
            "device, found, PRIMARY KEY (root, what, name)) WITHOUT ROWID"
        )
    except (OSError, sqlite3.Error, UserError) as error:
        _complain(error)
        yield None
        return
    with closing(opened):
        yield opened


def _recall(memory: sqlite3.Connection | None, base: bytes, what: str) -> dict[tuple, str]:
    if memory is None:
        return {}
    try:
        rows = memory.execute(
            "SELECT name, size, mtime, ctime, inode, device, found FROM files "
            "WHERE root = ? AND what = ?",
            (base, what),
        ).fetchall()
    except sqlite3.Error as error:
        _complain(error)
        return {}
    return {tuple(row[:-1]): row[-1] for row in rows}


def _remember(
    memory: sqlite3.Connection | None,
    base: bytes,
    what: str,
    fresh: Sequence[tuple[bytes, Stamp | None, str]],
) -> None:
    settled = time.time_ns() - int(RACY_SECONDS * 1e9)
    rows = [
        (base, what, name, *stamp, text)
        for name, stamp, text in fresh
        if stamp and max(stamp[1], stamp[2]) < settled and not text.startswith(FAILED)
    ]
    if memory is None or not rows:
        return
    try:
        with memory:
            marks = ", ".join("?" * 9)
            memory.executemany(f"INSERT OR REPLACE INTO files VALUES ({marks})", rows)
    except sqlite3.Error as error:
        _complain(error)


def _complain(error: Exception) -> None:
    remedy = "" if HOME in str(error) else f"; set {HOME} to a folder that you may write to"
    log.warning("contents of files cannot be remembered (%s)%s", error, remedy)
