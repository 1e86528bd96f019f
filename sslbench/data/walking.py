"""The one way through a folder of files, with links in it that may lead anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sslbench.data.reading import is_junk
from sslbench.errors import UserError
from sslbench.system.printing import printable

Key = tuple[int, int]  # device and inode


def files_below(folder: Path) -> Iterator[str]:
    """Paths of all files below `folder`, relative to it, without hidden ones and systems' junk.

    Links to folders are followed, but not back into a folder that is on the way (or holds
    `folder`), and below a link no folder is entered by a second link twice: so neither one loop nor
    many folders linked to one another multiply what is there. Raises UserError for a folder that
    cannot be read.
    """
    around = tuple(_key(os.stat(place)) for place in folder.resolve().parents)  # noqa: PTH116
    return _walk(str(folder), "", around, linked=False, entered=set())


def _walk(
    folder: str, base: str, above: tuple[Key, ...], linked: bool, entered: set[Key]
) -> Iterator[str]:
    """Files of `folder`, each after `base`, then those of its folders.

    above: the folders on the way; linked: whether a link is among them; entered: the folders that
    were reached by more than one link.
    """
    try:
        here = _key(os.stat(folder))  # noqa: PTH116 (hot path)
        if here in above:
            return
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"The folder {printable(folder)} cannot be read ({error.strerror}): make it readable "
            "or move it out of the dataset."
        ) from error
    folders = []
    for entry in found:
        if is_junk(entry.name):
            continue
        if _is_folder(entry):
            folders.append(entry)
        else:
            yield f"{base}{entry.name}"
    for entry in folders:
        by_link = entry.is_symlink()
        if by_link and linked:
            if (key := _key(entry.stat())) in entered:
                continue
            entered.add(key)
        below = f"{base}{entry.name}/"
        yield from _walk(entry.path, below, (*above, here), linked or by_link, entered)


def _key(status: os.stat_result) -> Key:
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
