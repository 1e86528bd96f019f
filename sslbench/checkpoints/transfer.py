"""Downloads one file over HTTP, resumes what was cut off and shows progress on a terminal.

Written here because torch.hub does not resume, and huggingface_hub's `http_get`, which does, is not
a public function.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

CHUNK, TIMEOUT = 2**20, 30  # bytes, seconds


class TransferError(Exception):
    """The server cannot be reached, refuses, or the connection ended early."""


@contextmanager
def locked(part: Path) -> Iterator[BinaryIO]:
    """Open `part` to append; other processes wait here meanwhile."""
    while True:
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                current = os.path.samestat(os.fstat(file.fileno()), part.stat())
            except FileNotFoundError:
                current = False  # who held the lock has moved or removed it
            if current:
                yield file
                return


def fetch(url: str, part: Path, file: BinaryIO) -> None:
    """Append to `file`, which is `part` as `locked` opens it, until it holds all that `url` sends.

    A connection that ends early is resumed as long as each new one brings more. Raises
    TransferError if one does not, and OSError if the file cannot be written.
    """
    with _progress() as progress:
        task = progress.add_task(part.name.removeprefix(".").removesuffix(".part"), total=None)
        while True:
            before = size(file)
            try:
                for received, total in _receive(url, part, file):
                    progress.update(task, completed=received, total=total)
                return
            except TransferError:
                if size(file) <= before:
                    raise


def resumable(part: Path) -> bool:
    """Whether a later `fetch` can resume what `part` holds."""
    return part.is_file() and part.stat().st_size > 0 and _validator(part).is_file()


def discard(part: Path) -> None:
    """Remove `part` and what is kept beside it."""
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def size(file: BinaryIO) -> int:
    """Return the bytes that an open file holds."""
    file.flush()
    return os.fstat(file.fileno()).st_size


def _validator(part: Path) -> Path:
    """The file that keeps the ETag or date of what `part` is the beginning of (RFC 9110, 8.8)."""
    return part.with_name(f"{part.name}.validator")


def _receive(url: str, part: Path, file: BinaryIO) -> Iterator[tuple[int, int | None]]:
    """Over one connection; yields bytes there and bytes in all (None if the server hides it)."""
    start = size(file)
    with _open(url, part, start) as reply:
        if reply is None:
            return
        if reply.status != HTTPStatus.PARTIAL_CONTENT:  # the server sends everything
            file.truncate(start := 0)
            _keep_validator(reply, part)
        total = None if reply.length is None else start + reply.length
        received = start
        for chunk in _chunks(reply):
            file.write(chunk)
            received += len(chunk)
            yield received, total
    if total is not None and received < total:
        raise TransferError(f"the connection ended {total - received:,} bytes early")


@contextmanager
def _open(url: str, part: Path, start: int) -> Iterator[HTTPResponse | None]:
    """The reply from byte `start` on; None if there are no more bytes.

    If-Range makes the server send everything if its file has changed (RFC 9110, 13.1.5).
    """
    headers = {}
    if start and resumable(part):
        headers = {"Range": f"bytes={start}-", "If-Range": _validator(part).read_text()}
    try:
        reply = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if not (headers and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise TransferError(str(error)) from error
        reply = None
    except (OSError, HTTPException) as error:
        raise TransferError(str(error)) from error
    try:
        if reply and reply.status == HTTPStatus.PARTIAL_CONTENT:
            sent = reply.headers.get("Content-Range", "")
            if not sent.startswith(f"bytes {start}-"):
                raise TransferError(f"it was asked for bytes from {start:,} on and sent {sent!r}")
        yield reply
    finally:
        if reply:
            reply.close()


def _keep_validator(reply: HTTPResponse, part: Path) -> None:
    etag = reply.headers.get("ETag", "")
    strong = etag if etag and not etag.startswith("W/") else reply.headers.get("Last-Modified")
    if strong:
        _validator(part).write_text(strong)
    else:
        _validator(part).unlink(missing_ok=True)


def _chunks(reply: HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := reply.read1(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise TransferError(str(error)) from error


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
