"""The folder where sslbench keeps generated data and caches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sslbench.errors import UserError
from sslbench.system.printing import printable

HOME = "SSLBENCH_HOME"  # environment variable


def home() -> Path:
    """Return $SSLBENCH_HOME or ~/.cache/sslbench; UserError if the user has no home folder."""
    if folder := os.environ.get(HOME):
        return Path(folder)
    try:
        return Path.home() / ".cache" / "sslbench"
    except RuntimeError as error:
        raise UserError(
            f"this user has no home folder to keep data in; set {HOME} to a folder that you may "
            "write to."
        ) from error


def expanded(source: str | Path) -> Path:
    """Return `source` as a path with "~" resolved; UserError if that user is unknown.

    UserError for a null byte too, which no path has.
    """
    if "\0" in str(source):
        raise UserError(f"{printable(source)} contains a null byte, which no path has.")
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{source} is in the home folder of an unknown user; give the full path."
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path`, below `home()`, into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{printable(path)} cannot be written ({error.strerror or error}): free disk space or "
            f"set {HOME} to a folder that you may write to."
        ) from error
