"""Prints sheets as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from sslbench.reporting.sheet import NUMBER, Entry, Sheet
from sslbench.reporting.texts import clean

# What would begin something in Markdown, HTML or GitHub's maths; one `_` within a word does not.
SPECIAL = re.compile(r"([\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_]))")
# GitHub makes links of these without any mark
AUTOMATIC = re.compile(r"(?i)(https?|ftp|www|mailto|xmpp|(?<=[\w.+-])(?=@[\w-]+\.))([:.@])")


# What would begin a heading, list or rule at the start of a line, or end a heading
START = re.compile(r"^(\d{0,9})(?=[-+=#.)])")
END = re.compile(r"(?=#+$)")


def sheet_to_markdown(sheet: Sheet) -> str:
    """One heading and one table."""
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
    """A heading or sentence that begins nothing else."""
    return START.sub(r"\1\\", END.sub(r"\\", escape(text), count=1))


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.spread:
        text += f" ± {entry.spread} (n={entry.n})"
    return (f"**{text}**" if entry.bold else text) + _marks(entry.notes)


def _marks(notes: tuple[int, ...]) -> str:
    return "".join(f"<sup>[{i}]</sup>" for i in notes)


def escape(text: str) -> str:
    """Text that shows as it is: no link, image, HTML, emphasis or column of its own."""
    marked = SPECIAL.sub(r"\\\1", clean(text))
    return AUTOMATIC.sub(lambda m: f"{m[1]}&#{ord(m[2])};", marked)
