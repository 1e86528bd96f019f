"""Files that hold their own SHA-256: JSON, and archives written by `torch.save`.

An archive has the checksum of all its bytes as its ZIP comment, which torch, mmengine and unzip
skip. Its parts also have CRC-32 checksums, but torch does not verify them.
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

# the end record of an archive: signature, four counts, size and offset, length of the comment
END, END_SIZE = b"PK\5\6", 22
MARK = b"sslbench sha256 "
COMMENT_SIZE = len(MARK) + 2 * hashlib.sha256().digest_size
CHUNK = 1 << 20
CHECKSUM = "sha256"
log = logging.getLogger(__name__)


class DamagedFile(UserError):
    """A file was changed or truncated after sslbench wrote it."""


def seal(path: Path) -> None:
    """Append the checksum to a file that `torch.save` has just written."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 2)
        file.write(COMMENT_SIZE.to_bytes(2, "little"))
        checksum = _sha256(file, size)
        file.seek(size)
        file.write(MARK + checksum)


def load_checked(path: Path) -> Any:
    """Return the tensors (on the CPU) and plain containers of a file written by `save_checked`.

    Files of older versions, without a checksum, are read with a warning. Raises DamagedFile if any
    byte changed, and FileNotFoundError.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            if not _is_sealed(file):
                _check_parts(file)
                log.warning("%s was written by an older version and has no checksum.", path)
            file.seek(0)
            screen(path, zipped=True)
            content = torch.load(file, map_location="cpu", weights_only=True)
        check_stored(path, content)
        return content
    except FileNotFoundError:
        raise
    except Exception as error:  # reading a damaged file may raise anything
        reason = error if isinstance(error, _Damage) else _first_sentence(error)
        raise DamagedFile(f"{path} is truncated or damaged ({reason}).") from error


def sealed_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON `values` with their checksum added."""
    return {**values, CHECKSUM: _json_sha256(values)}


def load_checked_json(path: Path) -> dict[str, Any]:
    """Return the values that `sealed_json` sealed; files of older versions have no checksum.

    Raises DamagedFile or FileNotFoundError.
    """
    try:
        values = parse_json(read_small(path))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path} is truncated or damaged ({_first_sentence(error)}).") from error
    if not isinstance(values, dict):
        raise DamagedFile(f"{path} is damaged (it is not a JSON object).")
    checksum = values.pop(CHECKSUM, None)
    if checksum not in (None, _json_sha256(values)):
        raise DamagedFile(f"{path} is damaged (it does not match its checksum).")
    return values


def _json_sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class _Damage(Exception):
    pass


def _is_sealed(file: BinaryIO) -> bool:
    """Return False for an archive without a comment; raise _Damage if the checksum is wrong."""
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
    """Return the checksum of the first `size` bytes in hexadecimal."""
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


def _first_sentence(error: Exception) -> str:
    """Return the first sentence of an error message, without the advice that torch appends."""
    message = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return " ".join(message.split(". ")[0].split())[:120].rstrip(".")


def save_pickled(
    path: Path,
    value: Any,
    keep: Path | None = None,
    finish: Callable[[Path], None] = lambda path: None,
) -> None:
    """Write `value` by `torch.save`, atomically; `finish` may change the file before the rename."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # torch's own writer does not say why it fails
            torch.save(value, file)
        finish(temporary)

    write_atomically(path, write, keep)


def save_checked(path: Path, value: Any, keep: Path | None = None) -> None:
    """Write `value` by `save_pickled` with a checksum, which `load_checked` verifies."""
    save_pickled(path, value, keep, finish=seal)
