"""Finds released weights by name: in a folder of the user's, in ours, or at their publisher's."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from sslbench.checkpoints.files import not_weights, stem
from sslbench.checkpoints.releases import RELEASES, Release
from sslbench.errors import UserError, nearest
from sslbench.storage.files import write_atomically
from sslbench.storage.home import expanded, home, writing

OVERRIDE = "SSLBENCH_WEIGHTS"  # environment variable: the user's folder of weights
CHUNK, TIMEOUT = 2**20, 30  # bytes, seconds


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
    write_atomically(path, lambda temporary: _download(release, temporary, path))
    return path


def _download(release: Release, temporary: Path, path: Path) -> None:
    sha = hashlib.sha256()
    with temporary.open("wb") as file:
        for chunk in _chunks(release, path):
            sha.update(chunk)
            file.write(chunk)
    if said := not_weights(temporary):
        raise UserError(f"what {release.url} sends {said}; {_by_hand(release, path)}.")
    if not sha.hexdigest().startswith(release.sha256):
        raise UserError(
            f"{release.url} sends a file whose SHA-256 is {sha.hexdigest()}, not "
            f"{release.sha256}...; {_by_hand(release, path)}."
        )


def _chunks(release: Release, path: Path) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(release.url, timeout=TIMEOUT) as reply:
            missing = int(reply.headers.get("Content-Length") or 0)
            while chunk := reply.read(CHUNK):
                missing -= len(chunk)
                yield chunk
            if missing > 0:
                raise OSError(f"the connection ended {missing:,} bytes early")
    except (OSError, HTTPException) as error:
        raise UserError(
            f"{release.url} cannot be downloaded ({error}); {_by_hand(release, path)}."
        ) from error


def _by_hand(release: Release, path: Path) -> str:
    return f"fetch it elsewhere and put it at {path} or, as {release.filename}, in ${OVERRIDE}"
