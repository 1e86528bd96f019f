"""How files come to be: whole or not at all, with everybody's usual rights, through nobody's link.

What is written grows in a folder beside its place that is new, has a random name and lets nobody
else in; so nothing can wait there for us, and two containers with one process number do not meet.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sslbench.errors import UserError
from sslbench.storage.layout import has_state
from sslbench.system.processes import is_worker_death

LARGEST = 2**26  # bytes of a file of settings or texts that is read as a whole
DEEPEST = 64  # objects and lists of JSON inside one another
STALE_SECONDS = 86_400.0  # nothing takes a day to write: who left this was killed


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A name beside `path`, on the same disk, for what will be `path`; whatever is left goes away.

    Drafts of `path` that a killed process left a day ago go too. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = f".{path.name[:40]}-"  # names have at most 255 bytes
    for old in path.parent.glob(f"{glob.escape(begin)}????????.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - old.lstat().st_mtime > STALE_SECONDS:
                remove(old)
    room = Path(tempfile.mkdtemp(prefix=begin, suffix=".tmp", dir=path.parent))
    try:
        yield room / "new.tmp"
    finally:
        remove(room)


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """An empty file to write to; synced, it takes the place of `path`, links are not followed.

    keep: where the file that is replaced stays. Nothing changes where the block raises.
    """
    with draft(path) as temporary:
        new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        mode = os.fstat(new).st_mode & 0o777  # the umask's
        os.close(new)
        yield temporary
        with temporary.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o777 != mode:  # safetensors makes it 600
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if keep and path.exists():
            path.replace(keep)
        temporary.replace(path)


@contextlib.contextmanager
def utf8_name(path: Path) -> Iterator[Path]:
    """`path`, or a link to it while the block lasts, for libraries that open UTF-8 names only."""
    try:
        str(path).encode()
        yield path
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as room:
            link = Path(room) / "link"
            link.symlink_to(path.absolute())
            yield link


def check_regular(path: Path) -> None:
    """Raises OSError for what is there and no file: reading a pipe or a device may never end."""
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")


def read_small(path: Path, largest: int = LARGEST) -> bytes:
    """What a regular file of at most `largest` bytes holds; OSError for any other."""
    check_regular(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise OSError(f"it is larger than {largest:,} bytes")
        return file.read(size)


def parse_json(text: str | bytes, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """`json.loads` for what anybody may have written: ValueError for whatever cannot be used.

    That is also what is nested too deeply, for the parser or for those who walk through its result.
    """
    try:
        found = json.loads(text, object_hook=object_hook)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level: list[Any] = [[found]]
    for _ in range(DEEPEST + 1):
        level = [part for value in level for part in _parts(value)]
        if not level:
            return found
    raise ValueError("it is nested too deeply")


def _parts(value: Any) -> list[Any]:
    """The lists and dicts inside one."""
    inside = value.values() if isinstance(value, dict) else value
    return (
        [x for x in inside if isinstance(x, dict | list)] if isinstance(value, dict | list) else []
    )


def remove(path: Path) -> None:
    """Removes a file, a link or a whole folder, if that can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def remove_leftovers(folder: Path) -> None:
    """Removes the drafts of a process that was killed while it wrote; `folder` must be ours."""
    for path in folder.glob(".*.tmp"):
        remove(path)


def write_atomically(path: Path, write: Callable[[Path], Any], keep: Path | None = None) -> None:
    """Lets `write` fill a file that then takes the place of `path`, see `replacing`.

    keep: where the file that is replaced stays. A full disk leaves `path` as it was and raises
    UserError, which tells of --resume where there is a run to go on with.
    """
    try:
        with replacing(path, keep) as temporary:
            write(temporary)
    except (OSError, RuntimeError, SafetensorError) as error:
        if is_worker_death(error):
            raise
        resume = ", with --resume if the run had begun" if has_state(path.parent) else ""
        raise UserError(
            f"{path} cannot be written ({_reason(error)}); free disk space or choose another --out "
            f"and repeat the command{resume}."
        ) from error


def _reason(error: BaseException) -> str:
    """The system's own words, which torch buries below an error of its archive writer."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, OSError):
        cause = cause.__context__
    said = re.sub(r"\[enforce fail[^]]*\][ .]*", "", str(error))
    return getattr(cause, "strerror", None) or " ".join(said.split())


def save_json(path: Path, value: Any) -> None:
    write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=2) + "\n"))
