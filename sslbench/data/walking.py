"""Lists the files below a folder, whose symbolic links may lead anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sslbench.data.reading import is_junk
from sslbench.errors import UserError
from sslbench.system.printing import printable

Key = tuple[int, int]  # device and inode


def files_below(folder: Path) -> Iterator[str]:
    """Yield the paths of all files below `folder`, relative to it, without hidden files and junk.

    Links to folders are followed, but never into a folder that contains the link (or `folder`).
    Below a link, each linked folder is entered only once. So neither loops nor folders that link to
    one another multiply the files. Raises UserError for a folder that cannot be read.
    """
    parents = tuple(_key(os.stat(parent)) for parent in folder.resolve().parents)  # noqa: PTH116
    return _walk(str(folder), "", parents, linked=False, entered=set())


def _walk(
    folder: str, prefix: str, parents: tuple[Key, ...], linked: bool, entered: set[Key]
) -> Iterator[str]:
    """Yield the files of `folder`, each with `prefix`, then those of its folders.

    parents: the folders above it; linked: whether it was reached by a link; entered: the folders
    that were reached by more than one link.
    """
    try:
        key = _key(os.stat(folder))  # noqa: PTH116 (hot path)
        if key in parents:
            return
        with os.scandir(folder) as iterator:
            entries = sorted(iterator, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"The folder {printable(folder)} cannot be read ({error.strerror}): make it readable "
            "or move it out of the dataset."
        ) from error
    folders = []
    for entry in entries:
        if is_junk(entry.name):
            continue
        if _is_folder(entry):
            folders.append(entry)
        else:
            yield f"{prefix}{entry.name}"
    for entry in folders:
        is_link = entry.is_symlink()
        if is_link and linked:
            if (target := _key(entry.stat())) in entered:
                continue
            entered.add(target)
        path = f"{prefix}{entry.name}/"
        yield from _walk(entry.path, path, (*parents, key), linked or is_link, entered)


def _key(status: os.stat_result) -> Key:
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
