"""Where sslbench keeps what it makes and remembers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sslbench.errors import UserError
from sslbench.system.printing import printable

HOME = "SSLBENCH_HOME"  # environment variable: the folder


def home() -> Path:
    """$SSLBENCH_HOME, else ~/.cache/sslbench; UserError for a user without a home."""
    if given := os.environ.get(HOME):
        return Path(given)
    try:
        return Path.home() / ".cache" / "sslbench"
    except RuntimeError as error:
        raise UserError(
            f"this user has no home folder to keep data in; set {HOME} to a folder that you may "
            "write to."
        ) from error


def expanded(source: str | Path) -> Path:
    """`source` as a path, "~" resolved; UserError for the home of a user who is unknown here."""
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{source} lies in the home of a user who is unknown here; give the whole path."
        ) from error


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Turns an OSError of what is written to `path`, below `home()`, into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{printable(path)} cannot be written ({error.strerror or error}): free disk space or "
            f"set {HOME} to a folder that you may write to."
        ) from error
