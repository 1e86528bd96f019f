"""Converts text to LaTeX and estimates its printed width."""

from __future__ import annotations

import re
import unicodedata
from itertools import zip_longest

from sslbench.reporting.texts import clean

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "`": r"\textquoteleft{}",
    "'": r"\textquoteright{}",
    "-": "-{}",  # `--` and `---` would be dashes
    "[": "{[}",  # after `\\`, [ or * would be part of that command
    "*": "{*}",
    "?": "?{}",  # ?` and !` would be Spanish marks
    "!": "!{}",
    ",": ",{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "µ": r"$\mu$",
    "λ": r"$\lambda$",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}
LIGATURES = "-?!,'"  # a single one needs no escape
INDEXED = re.compile(r"(?<=\bAP)\^([A-Za-z0-9])(?:_([A-Za-z0-9]+))?")  # AP^b, AP^m_75
LATIN = 0x250  # every LaTeX engine prints Latin letters below this, only some print the others
UNBROKEN = 24  # letters of the longest word that needs no break in a paragraph

# Widths in em of Computer Modern at 8 pt, which is wider than most fonts
WIDTHS = {
    0.31: "il.,:;'`!|",
    0.36: "fj ",
    0.43: "rst-/()[]I",
    0.48: "cez",
    0.54: "ago0123456789",
    0.62: "bdhknpquvxy",
    0.85: "w±=+<>",
    0.93: "m%@&",
    1.03: "MWÆŒ—",
}
EM = {c: em for em, letters in WIDTHS.items() for c in letters}
LOWER, UPPER, WIDE, BOLD = 0.62, 0.8, 1.05, 1.16
LETTER = 0.72  # mean width of a letter in a mixed word


def escape(text: str, unbroken: int = 0) -> str:
    """Return LaTeX that prints `text` with any engine that has its letters.

    AP^b and AP^b_50 keep their indices. unbroken: words of more letters may be broken, 0 = none.
    """
    parts = INDEXED.split(clean(text))  # plain, ^, _, plain, ^, _, plain, ...
    plain = [_plain(part, unbroken) for part in parts[::3]]
    indices = [
        rf"$^{{\mathrm{{{above}}}}}_{{{below}}}$" if below else rf"$^{{\mathrm{{{above}}}}}$"
        for above, below in zip(parts[1::3], parts[2::3], strict=True)
    ]
    return "".join(a + b for a, b in zip_longest(plain, indices, fillvalue=""))


def _plain(text: str, unbroken: int) -> str:
    return " ".join(
        _word(word, unbroken if len(word) > unbroken else 0) for word in text.split(" ")
    )


def _word(word: str, unbroken: int) -> str:
    parts, run = [], 0
    for index, c in enumerate(word):
        following = word[index + 1 : index + 2]
        single = c in LIGATURES and following not in (c, "`", "'", "–", "—")
        parts.append(c if single else SPECIAL.get(c, c))
        run += 1
        if unbroken and following and (c in "/_.=:-" or run >= unbroken):
            parts.append(r"\allowbreak{}")
            run = 0
    return "".join(parts)


def width(text: str, size: float, bold: bool = False) -> float:
    """Return an upper bound of the width of `text` in points in a font of `size` points."""
    return size * sum(map(_em, clean(text))) * (BOLD if bold else 1.0)


def _em(c: str) -> float:
    if c in EM:
        return EM[c]
    if unicodedata.east_asian_width(c) in "WF" or (
        unicodedata.category(c).startswith("S") and ord(c) > LATIN
    ):
        return WIDE
    return UPPER if c.isupper() else LOWER


def foreign(text: str) -> bool:
    """Return whether `text` has letters that pdfLaTeX cannot print without more packages."""
    return any(ord(c) >= LATIN and c not in SPECIAL for c in clean(text))
