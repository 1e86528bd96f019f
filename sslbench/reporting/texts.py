"""Makes names from files and users printable."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath

MAX_CHARACTERS = 60  # of a name in a printed table; CSV has full names
INVISIBLE = ("Cc", "Cf", "Cs")  # Unicode's control, format (e.g. direction) and surrogate classes
BYTE = re.compile("[\udc80-\udcff]")  # Python's stand-ins for bytes that are not UTF-8


def clean(text: str) -> str:
    r"""Return one line without control characters; bytes that are not UTF-8 become e.g. \xe9."""
    text = BYTE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    visible = "".join(c for c in text if unicodedata.category(c) not in INVISIBLE)
    return unicodedata.normalize("NFC", visible)


def shorten(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """Return `text`, shortened in the middle if it is too long."""
    text = clean(text)
    if len(text) <= max_characters:
        return text
    kept = max_characters - 1
    return f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"


def shorten_words(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """Return a sentence with every word shortened that is too long."""
    return " ".join(shorten(word, max_characters) for word in clean(text).split(" "))


def data_name(name: str) -> str:
    """Return a dataset's name: the last folder of a path, or the one above if it is "train"."""
    parts = [part for part in re.split(r"[/\\]+", name) if part]
    if len(parts) > 1 and parts[-1].casefold() == "train":
        parts.pop()
    return parts[-1] if parts else name


def tails(sources: Collection[str]) -> dict[str, str]:
    """Return source -> the shortest end of its path that no other source has.

    Options after "?" stay with the name.
    """
    split = {}
    for source in sources:
        path, mark, options = source.partition("?")
        *folders, name = PurePosixPath(path.replace("\\", "/")).parts or ("",)
        split[source] = [*folders, f"{name}{mark}{options}"]
    result = {}
    for source, parts in split.items():
        others = [p for s, p in split.items() if s != source]
        count = next(
            (n for n in range(1, len(parts) + 1) if all(p[-n:] != parts[-n:] for p in others)),
            len(parts),
        )
        result[source] = str(PurePosixPath(*parts[-count:]))
    return result


def natural(text: str) -> tuple[list[tuple[int, float, str]], str]:
    """A key that sorts numbers by value, "k=5" before "k=20" and 0.01 before 0.1; never a tie."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", text)
    return [(0, float(p), "") if p[0].isdecimal() else (1, 0.0, p) for p in parts], text
