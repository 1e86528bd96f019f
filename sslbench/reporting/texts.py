"""Names from files and users, made fit to print."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath

LONGEST = 60  # characters of a name in a printed table; CSV keeps them whole
INVISIBLE = ("Cc", "Cf", "Cs")  # Unicode's control, format (e.g. direction) and half characters
BYTE = re.compile("[\udc80-\udcff]")  # how Python keeps a byte of a name that is no UTF-8


def clean(text: str) -> str:
    r"""One line without control characters; bytes that are no UTF-8 as escapes such as \xe9."""
    text = BYTE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    kept = "".join(c for c in text if unicodedata.category(c) not in INVISIBLE)
    return unicodedata.normalize("NFC", kept)


def shorten(text: str, longest: int = LONGEST) -> str:
    """`text`, cut in the middle where it is too long."""
    text = clean(text)
    if len(text) <= longest:
        return text
    kept = longest - 1
    return f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"


def shorten_words(text: str, longest: int = LONGEST) -> str:
    """A sentence in which no word is too long for a line."""
    return " ".join(shorten(word, longest) for word in clean(text).split(" "))


def data_name(name: str) -> str:
    """What a dataset is called: a path's last folder, the one above a folder "train"."""
    parts = [part for part in re.split(r"[/\\]+", name) if part]
    if len(parts) > 1 and parts[-1].casefold() == "train":
        parts.pop()
    return parts[-1] if parts else name


def tails(sources: Collection[str]) -> dict[str, str]:
    """source -> its last folders and name, as few as tell all `sources` apart.

    Options after "?" stay with the name.
    """
    split = {}
    for source in sources:
        path, mark, options = source.partition("?")
        *folders, name = PurePosixPath(path.replace("\\", "/")).parts or ("",)
        split[source] = [*folders, f"{name}{mark}{options}"]
    found = {}
    for source, parts in split.items():
        others = [p for s, p in split.items() if s != source]
        count = next(
            (n for n in range(1, len(parts) + 1) if all(p[-n:] != parts[-n:] for p in others)),
            len(parts),
        )
        found[source] = str(PurePosixPath(*parts[-count:]))
    return found


def natural(text: str) -> tuple[list[tuple[int, float, str]], str]:
    """A key that sorts numbers by value, "k=5" before "k=20" and 0.01 before 0.1; never a tie."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", text)
    return [(0, float(p), "") if p[0].isdecimal() else (1, 0.0, p) for p in parts], text
