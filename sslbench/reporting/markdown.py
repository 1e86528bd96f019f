"""Prints sheets as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from sslbench.reporting.sheet import NUMBER, Entry, Sheet
from sslbench.reporting.texts import clean

# Characters with a meaning in Markdown, HTML or GitHub's maths; `_` within a word has none.
SPECIAL = re.compile(r"([\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_]))")
# GitHub turns these into links
AUTOMATIC = re.compile(r"(?i)(https?|ftp|www|mailto|xmpp|(?<=[\w.+-])(?=@[\w-]+\.))([:.@])")
# Positions of a backslash: before what starts a heading, list or rule, and before what ends one
START = re.compile(r"^(\d{0,9})(?=[-+=#.)])")
END = re.compile(r"(?=#+$)")


def sheet_to_markdown(sheet: Sheet) -> str:
    """Return a heading, a table and its notes."""
    head = [f"{escape(f'{h.group} {h.text}'.strip())}{_marks(h.notes)}" for h in sheet.heads]
    align = ["---:" if h.kind == NUMBER else "---" for h in sheet.heads]
    body = [[_entry(e) for e in row] for row in sheet.rows]
    data = (
        f" (data {sheet.identity})" if sheet.identity and sheet.identity not in sheet.title else ""
    )
    lines = [f"### {_line(sheet.caption or sheet.title + data)}", ""]
    lines += [f"| {' | '.join(row)} |" for row in (head, align, *body)]
    constants = [f"All models: {'; '.join(sheet.constants)}."] if sheet.constants else []
    if sheet.caption and sheet.identity:
        constants.insert(0, f"Data: {sheet.title}{data}.")
    lines += ["", *(f"{_line(text)}  " for text in (*constants, *sheet.legend()))]
    lines += [f"[{i}] {escape(note)}  " for i, note in enumerate(sheet.notes, start=1)]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    """Escape a heading or sentence that fills a line."""
    return START.sub(r"\1\\", END.sub(r"\\", escape(text), count=1))


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.spread:
        text += f" ± {entry.spread} (n={entry.n})"
    return (f"**{text}**" if entry.bold else text) + _marks(entry.notes)


def _marks(notes: tuple[int, ...]) -> str:
    return "".join(f"<sup>[{i}]</sup>" for i in notes)


def escape(text: str) -> str:
    """Return Markdown that shows `text` literally, without links, HTML, emphasis or columns."""
    marked = SPECIAL.sub(r"\\\1", clean(text))
    return AUTOMATIC.sub(lambda m: f"{m[1]}&#{ord(m[2])};", marked)
