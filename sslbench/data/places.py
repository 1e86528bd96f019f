"""Where images may come from: the names of datasets, and what a path must lead to."""

from __future__ import annotations

import os
from pathlib import Path

from sslbench.errors import UserError, nearest
from sslbench.storage.home import expanded
from sslbench.system.printing import printable

EMBEDDED = ("digits", "shapes")
ABSENT = ("imagenet-1k", "imagenet-22k")  # named by recipes; their licence forbids shipping them
TORCHVISION = "torchvision:"
OFFICIAL = "labels=official"  # number the classes as the official code of the papers does
TRAINVAL = "train=trainval"  # train on the train and the validation split, as the papers do
OPTIONS = {TORCHVISION + "Flowers102": TRAINVAL, TORCHVISION + "StanfordCars": OFFICIAL}


def is_named(source: str) -> bool:
    """Return whether `source` is the name of a dataset and not a path."""
    return source in (*EMBEDDED, *ABSENT) or source.startswith(TORCHVISION)


def place_and_option(source: str) -> tuple[str, str]:
    """Return the source without the text after "?", and that text, "" if there is none.

    Raises UserError for an option that this source does not have.
    """
    place, mark, option = source.partition("?")
    if not mark or os.path.lexists(expanded(source)):
        return source, ""
    known = OPTIONS.get(place, "" if is_named(place) else OFFICIAL)
    if option == known != "":
        return place, option
    remedy = f"write {printable(place)}?{known}" if known else f"write {printable(place)} alone"
    raise UserError(
        f"The dataset {printable(place)} has no option {printable(option)!r}: {remedy}."
    )


def is_absent(source: str) -> bool:
    """Return whether `source` names data that the user has to provide."""
    return source in ABSENT and not Path(source).exists()


def check_place(source: str) -> None:
    """Raise UserError if `source` is no name, no folder and no .txt list; opens nothing."""
    source, _ = place_and_option(source)
    path = expanded(source)
    if is_absent(source):
        raise UserError(f"{source} does not come with sslbench: give the folder with --data DIR.")
    if is_named(source) or path.is_dir() or (path.is_file() and path.suffix == ".txt"):
        return
    shown = printable(path)
    if path.is_file():
        raise UserError(f"The file {shown} is not a dataset: give a folder or a .txt list.")
    if os.path.lexists(path):
        raise UserError(
            f"The path {shown} is neither a folder nor a regular file: give a folder or a .txt "
            "list."
        )
    if len(path.parts) > 1 or path.suffix:
        raise UserError(f"The path {shown} does not exist: give a folder, a .txt list or a name.")
    raise UserError(
        f"Unknown dataset {source!r}, which is neither a path nor embedded: "
        f"{nearest(source, [*EMBEDDED, TORCHVISION + 'NAME'])}."
    )


def absolute_place(source: str) -> str:
    """The absolute path of an existing file or folder; names of datasets as they are."""
    if not source or is_named(source):
        return source
    whole = os.path.lexists(expanded(source))  # a folder's name may hold "?"
    place, mark, options = (source, "", "") if whole else source.partition("?")
    path = expanded(place)
    return f"{path.absolute()}{mark}{options}" if path.exists() else source
