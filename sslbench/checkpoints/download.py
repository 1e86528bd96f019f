"""Finds released weights by name: in a folder of the user's, in ours, or at their publisher's."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import BinaryIO

from sslbench.checkpoints import transfer
from sslbench.checkpoints.files import not_weights, stem
from sslbench.checkpoints.releases import RELEASES, Release
from sslbench.errors import UserError, nearest
from sslbench.storage.home import expanded, home, writing

OVERRIDE = "SSLBENCH_WEIGHTS"  # environment variable: the user's folder of weights


def releases() -> dict[str, Release]:
    """name -> what is known of it."""
    return {release.name: release for release in RELEASES}


def release_of(path: Path) -> Release | None:
    """The release that a file is by its name, as published or as we name it."""
    return next((r for r in RELEASES if r.filename == path.name or r.name == stem(path)), None)


def find(name: str) -> Path:
    """The file of a release, downloaded if it is nowhere yet.

    It is looked for in $SSLBENCH_WEIGHTS and in `home()`/weights. Raises UserError for an unknown
    name or a download that fails; the sentence says what to put where.
    """
    known = releases()
    if name not in known:
        raise UserError(f"unknown weights {name!r}: {nearest(name, known)}.")
    release = known[name]
    own = home() / "weights"
    given = os.environ.get(OVERRIDE)
    for folder in ([expanded(given)] if given else []) + [own]:
        if (folder / release.filename).is_file():
            return folder / release.filename
    path = own / release.filename
    if not release.url:
        raise UserError(
            f"{name} has no lasting link; put the file at {path} or in ${OVERRIDE} under its name."
        )
    with writing(own):
        own.mkdir(parents=True, exist_ok=True)
    print(f"downloading {release.url} to {path}", file=sys.stderr)
    part = path.with_name(f".{path.name}.part")
    with writing(own), transfer.locked(part) as file:
        if not path.is_file():  # else another process has just finished it
            _receive(release, path, part, file)
            os.fsync(file.fileno())
            part.replace(path)
        transfer.discard(part)
    return path


def _receive(release: Release, path: Path, part: Path, file: BinaryIO) -> None:
    """Fill `part` and check it; it is removed if it is broken or cannot be resumed."""
    try:
        transfer.fetch(release.url, part, file)
    except transfer.TransferError as error:
        remedy = _by_hand(release, path)
        if transfer.resumable(part):
            received = transfer.size(file)
            remedy = f"repeat the command to resume after {received:,} bytes, or {remedy}"
        else:
            transfer.discard(part)
        raise UserError(f"{release.url} cannot be downloaded ({error}); {remedy}.") from error
    file.flush()
    try:
        _check(release, path, part)
    except UserError:
        transfer.discard(part)
        raise


def _check(release: Release, path: Path, part: Path) -> None:
    if reason := not_weights(part):
        raise UserError(f"what {release.url} sends {reason}; {_by_hand(release, path)}.")
    with part.open("rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    if not sha.startswith(release.sha256):
        raise UserError(
            f"{release.url} sends a file whose SHA-256 is {sha}, not {release.sha256}...; "
            f"{_by_hand(release, path)}."
        )


def _by_hand(release: Release, path: Path) -> str:
    return f"fetch it elsewhere and put it at {path} or, as {release.filename}, in ${OVERRIDE}"
