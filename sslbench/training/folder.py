"""Whose a run directory is: reserved for one run, and locked while a process trains in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import logging
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

from sslbench.errors import UserError
from sslbench.recipes.recipe import Recipe
from sslbench.storage.files import parse_json, remove
from sslbench.storage.layout import WEIGHTS, has_state
from sslbench.system.printing import printable

LOCK = ".lock"
LEFT_OVER = (LOCK, "console.log", "tensorboard")  # what a run that never began may leave
LONGEST = 4096  # characters of what a lock says
TAKEN = (errno.EACCES, errno.EAGAIN)
log = logging.getLogger(__name__)


def check_free(out: Path) -> None:
    """Raises UserError if `out` holds a run already, or anything that is none of ours."""
    if has_state(out) or (out / WEIGHTS).exists():
        raise UserError(
            f"{out} already holds a run; add --resume to go on with it or choose another --out."
        )
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is no folder; choose another --out.")
    foreign = [p.name for p in out.iterdir() if p.name not in LEFT_OVER and p.suffix != ".tmp"]
    if foreign:
        raise UserError(
            f"{out} holds other files ({', '.join(sorted(foreign)[:3])}), which a run might "
            "overwrite; choose a new or empty folder with --out."
        )


@contextlib.contextmanager
def reserved(out: Path | None, parent: Path, recipe: Recipe) -> Iterator[Path]:
    """`out` itself, or a new folder below `parent`, e.g. runs/ibot-shapes-seed0-2, for one run.

    Folders made here go again where an error leaves them empty.
    """
    made: list[Path] = []
    try:
        if out is None:
            made += _make(parent)
            out = _new_folder(parent, recipe)
            made.append(out)
        else:
            made += _make(out)
        yield out
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _make(folder: Path) -> list[Path]:
    """Makes a folder; those that did not exist, the outermost first. UserError if it cannot."""
    try:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{printable(folder)} cannot be made ({error.strerror}); choose another --out."
        ) from error
    return missing[::-1]


def _new_folder(parent: Path, recipe: Recipe) -> Path:
    parents = Path(recipe.name).parent.parts
    place = "-".join(p for p in parents if p not in ("/", "..")) or "own"
    name = f"{recipe.method_name}-{place}-seed{recipe.train.seed}"
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError  # numbers do not end


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keeps every other process from training in `out`; UserError names the one that is.

    The lock is the system's (also over NFS) and ends with this process, however that ends.
    """
    path = out / LOCK
    file = _lock(path, out)
    with file:
        file.seek(0)
        file.truncate()
        began = datetime.now().isoformat(" ", "seconds")
        json.dump({"process": os.getpid(), "host": socket.gethostname(), "began": began}, file)
        file.flush()
        try:
            yield
        finally:
            remove(path)  # still locked: who has opened it meanwhile finds it gone and looks again


def _lock(path: Path, out: Path) -> IO[str]:
    """The open lock file; UserError where another process holds it."""
    while True:
        file = path.open("a+")
        try:
            # a record lock: data workers, forked from here, do not inherit it
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except OSError as error:
            if error.errno not in TAKEN:
                log.warning("%s cannot be locked (%s): start no other run there.", out, error)
                return file
            with file:
                file.seek(0)
                holder = _holder(file.read(LONGEST))
            raise UserError(
                f"{out} is being trained by {holder}; wait until it ends, or train in another "
                "folder."
            ) from error
        file.close()


def _holder(text: str) -> str:
    try:
        told = parse_json(text)
        return f"process {told['process']} on {told['host']} since {told['began']}"
    except (ValueError, LookupError, TypeError):  # it is just being written
        return "another process"
