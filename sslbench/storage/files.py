"""Atomic writing and bounded reading of files.

A file is written in a new private folder with a random name beside its destination, then renamed.
So nobody can plant a link there, and containers with equal process ids do not collide. The finished
file has the permissions that the umask gives.
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

MAX_BYTES = 2**26  # of a file of settings or text
MAX_DEPTH = 64  # of nested JSON objects and lists
STALE_SECONDS = 86_400.0  # an older draft was left by a killed process


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield a path on the same disk as `path` to write to and rename; remove what is left there.

    Also removes drafts of `path` that a killed process left more than a day ago. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name[:40]}-"  # file names have at most 255 bytes
    for old in path.parent.glob(f"{glob.escape(prefix)}????????.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - old.lstat().st_mtime > STALE_SECONDS:
                remove(old)
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=path.parent))
    try:
        yield folder / "new.tmp"
    finally:
        remove(folder)


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yield an empty file to write to; afterwards sync it and rename it to `path`.

    keep: where to move the file that is replaced. A link at `path` is replaced, not followed.
    Nothing changes if the block raises.
    """
    with draft(path) as temporary:
        new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        mode = os.fstat(new).st_mode & 0o777  # as the umask gives it
        os.close(new)
        yield temporary
        with temporary.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o777 != mode:  # safetensors sets 600
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if keep and path.exists():
            path.replace(keep)
        temporary.replace(path)


@contextlib.contextmanager
def utf8_name(path: Path) -> Iterator[Path]:
    """Yield `path`, or a temporary link to it, for libraries that open only UTF-8 names."""
    try:
        str(path).encode()
        yield path
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / "link"
            link.symlink_to(path.absolute())
            yield link


def check_regular(path: Path) -> None:
    """Raise OSError if `path` exists but is not a regular file: reading a pipe may never end."""
    if path.exists() and not path.is_file():
        raise OSError("it is not a regular file")


def read_small(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file; OSError if it is another kind of file or larger."""
    check_regular(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(f"it is larger than {max_bytes:,} bytes")
        return file.read(size)


def parse_json(text: str | bytes, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """`json.loads` for untrusted text: ValueError if it is invalid or nested too deeply."""
    try:
        parsed = json.loads(text, object_hook=object_hook)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level: list[Any] = [[parsed]]
    for _ in range(MAX_DEPTH + 1):
        level = [part for value in level for part in _containers(value)]
        if not level:
            return parsed
    raise ValueError("it is nested too deeply")


def _containers(value: Any) -> list[Any]:
    """Return the lists and dicts directly inside a list or dict."""
    items = value.values() if isinstance(value, dict) else value
    return (
        [x for x in items if isinstance(x, dict | list)] if isinstance(value, dict | list) else []
    )


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the drafts that a killed process left; no other process may write in `folder`."""
    for path in folder.glob(".*.tmp"):
        remove(path)


def write_atomically(path: Path, write: Callable[[Path], Any], keep: Path | None = None) -> None:
    """Let `write` fill a new file, then rename it to `path`; see `replacing`.

    keep: where to move the file that is replaced. If writing fails, e.g. on a full disk, `path`
    stays as it was and a UserError is raised, which mentions --resume if there is a checkpoint.
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
    """Return the operating system's error message, which torch hides behind its own."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, OSError):
        cause = cause.__context__
    message = re.sub(r"\[enforce fail[^]]*\][ .]*", "", str(error))
    return getattr(cause, "strerror", None) or " ".join(message.split())


def save_json(path: Path, value: Any) -> None:
    write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=2) + "\n"))
