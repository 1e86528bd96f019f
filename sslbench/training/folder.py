"""Run directories belong to one run: reserved when it begins, locked while a process trains."""

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
LEFT_OVER = (LOCK, "console.log", "tensorboard")  # may remain of a run that never began
LONGEST = 4096  # characters read of a lock file
HELD = (errno.EACCES, errno.EAGAIN)  # another process holds the lock
log = logging.getLogger(__name__)


def check_free(out: Path) -> None:
    """Raises UserError if `out` already holds a run, or files that no run made."""
    if has_state(out) or (out / WEIGHTS).exists():
        raise UserError(
            f"{out} already holds a run; add --resume to continue it or choose another --out."
        )
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is not a folder; choose another --out.")
    foreign = [p.name for p in out.iterdir() if p.name not in LEFT_OVER and p.suffix != ".tmp"]
    if foreign:
        raise UserError(
            f"{out} holds other files ({', '.join(sorted(foreign)[:3])}), which a run might "
            "overwrite; choose a new or empty folder with --out."
        )


@contextlib.contextmanager
def reserved(out: Path | None, parent: Path, recipe: Recipe) -> Iterator[Path]:
    """`out` itself, or a new folder below `parent`, e.g. runs/ibot-shapes-seed0-2, for one run.

    If an error leaves them empty, folders made here are removed again.
    """
    created: list[Path] = []
    try:
        if out is None:
            created += _make(parent)
            out = _new_folder(parent, recipe)
            created.append(out)
        else:
            created += _make(out)
        yield out
    except BaseException:
        for folder in reversed(created):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _make(folder: Path) -> list[Path]:
    """Makes a folder and returns those that did not exist, the outermost first.

    Raises UserError if it cannot be made.
    """
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
    raise AssertionError  # count() is infinite


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keeps every other process from training in `out`; UserError names the one that is.

    The operating system holds the lock (over NFS too) and drops it when this process ends.
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
            remove(path)  # while locked: a process that has it open finds it gone and tries again


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
            if error.errno not in HELD:
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
        holder = parse_json(text)
        return f"process {holder['process']} on {holder['host']} since {holder['began']}"
    except (ValueError, LookupError, TypeError):  # it is being written
        return "another process"
