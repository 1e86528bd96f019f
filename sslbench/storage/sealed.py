"""Files that hold their own SHA-256: JSON, and what `torch.save` writes.

The latter has that of all its bytes as the comment of the archive, which every reader of archives
skips: torch, mm's tools and unzip read such a file as any other. Archives of torch carry a CRC-32
of each part too, but torch does not look.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sslbench.errors import UserError
from sslbench.storage.files import check_regular, parse_json, read_small, write_atomically
from sslbench.storage.screening import check_stored, screen

# the last record of an archive without a comment: signature, four counts, two places, length 0
END, END_SIZE = b"PK\5\6", 22
MARK = b"sslbench sha256 "
COMMENT_SIZE = len(MARK) + 2 * hashlib.sha256().digest_size
CHUNK = 1 << 20
CHECKSUM = "sha256"
log = logging.getLogger(__name__)


class DamagedFile(UserError):
    """A file of ours that is not as it was written."""


def seal(path: Path) -> None:
    """Appends the checksum to a file that `torch.save` has just written."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 2)
        file.write(COMMENT_SIZE.to_bytes(2, "little"))
        checksum = _sha256(file, size)
        file.seek(size)
        file.write(MARK + checksum)


def load_checked(path: Path) -> Any:
    """Tensors (on the CPU) and plain containers of a sealed file, or of one of an older version.

    Raises DamagedFile for any byte that changed; FileNotFoundError.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            if not _is_sealed(file):
                _check_parts(file)
                log.warning("%s is of an older version and has no checksum of its own.", path)
            file.seek(0)
            screen(path, zipped=True)
            found = torch.load(file, map_location="cpu", weights_only=True)
        check_stored(path, found)
        return found
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged stream may end in any way
        reason = error if isinstance(error, _Damage) else _told(error)
        raise DamagedFile(f"{path} is truncated or damaged ({reason}).") from error


def sealed_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, which JSON can hold, with their checksum among them."""
    return {**values, CHECKSUM: _json_sha256(values)}


def load_checked_json(path: Path) -> dict[str, Any]:
    """The values of `sealed_json` in a file; an older version's file has no checksum.

    Raises DamagedFile or FileNotFoundError.
    """
    try:
        values = parse_json(read_small(path))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path} is truncated or damaged ({_told(error)}).") from error
    if not isinstance(values, dict):
        raise DamagedFile(f"{path} is damaged (it holds no object).")
    checksum = values.pop(CHECKSUM, None)
    if checksum not in (None, _json_sha256(values)):
        raise DamagedFile(f"{path} is damaged (it does not match its checksum).")
    return values


def _json_sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class _Damage(Exception):
    pass


def _is_sealed(file: BinaryIO) -> bool:
    """False for an archive without a comment; raises _Damage if the checksum is another."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - END_SIZE - COMMENT_SIZE))
    tail = file.read()
    if tail[-END_SIZE:].startswith(END) and tail.endswith(b"\0\0"):
        return False
    if not tail[-COMMENT_SIZE:].startswith(MARK):
        raise _Damage("its end is missing")
    if tail[-COMMENT_SIZE:] != MARK + _sha256(file, size - COMMENT_SIZE):
        raise _Damage("it does not match its checksum")
    return True


def _sha256(file: BinaryIO, size: int) -> bytes:
    """In hex, of the first `size` bytes."""
    sha = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(min(CHUNK, size)):
        sha.update(chunk)
        size -= len(chunk)
    return sha.hexdigest().encode()


def _check_parts(file: BinaryIO) -> None:
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        if wrong := archive.testzip():
            raise _Damage(f"{wrong} does not match its checksum")


def _told(error: Exception) -> str:
    """The first sentence of an error, without what torch advises."""
    words = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return " ".join(words.split(". ")[0].split())[:120].rstrip(".")


def save_pickled(
    path: Path,
    value: Any,
    keep: Path | None = None,
    finish: Callable[[Path], None] = lambda path: None,
) -> None:
    """`torch.save` by `write_atomically`; `finish` gets the file before it takes its place."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # torch's own writer would not say why it fails
            torch.save(value, file)
        finish(temporary)

    write_atomically(path, write, keep)


def save_checked(path: Path, value: Any, keep: Path | None = None) -> None:
    """`save_pickled` with a checksum inside, which `load_checked` asks for."""
    save_pickled(path, value, keep, finish=seal)
