"""A table ready to print in any format: shortened names, and numbers as texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sslbench.reporting.section import Section, Table
from sslbench.reporting.texts import clean, shorten, shorten_words

TEXT, NUMBER = "text", "number"


@dataclass(frozen=True)
class Entry:
    """A cell: a text or a mean, its spread over n seeds, and the numbers of its footnotes."""

    text: str
    spread: str = ""
    n: int = 0
    bold: bool = False
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Head:
    """A column's heading; kind: TEXT or NUMBER, its content.

    group: the heading above it; meaning: the full name for a short heading, else "".
    """

    text: str
    kind: str = TEXT
    group: str = ""
    notes: tuple[int, ...] = ()
    meaning: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table whose first columns are TEXT.

    title: name of the data; identity: their fingerprint; caption: the user's, else ""; label: for
    LaTeX's \\ref; constants: what all rows share; notes[i] is footnote i + 1, remarks have no
    number.
    """

    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Entry, ...], ...]
    label: str
    identity: str = ""
    caption: str = ""
    constants: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def legend(self) -> list[str]:
        """Return the meanings of short headings, then the remarks."""
        meanings = [f"{h.text} = {h.meaning}" for h in self.heads if h.meaning]
        return [*([f"{'; '.join(meanings)}."] if meanings else []), *self.remarks]


def sheets(table: Table) -> list[Sheet]:
    """Return the sections of a table as sheets."""
    titles = [_title(s) for s in table.sections]
    count = Counter(titles)
    result = []
    for section, title in zip(table.sections, titles, strict=True):
        identity = " + ".join(source.fingerprint[:12] for source in section.sources)
        if count[title] > 1:
            title = f"{title} (data {identity})"
        label = safe_label(section.view.label) or label_of(title)
        result.append(_sheet(section, title, shorten_words(identity), label))
    return result


def _sheet(s: Section, title: str, identity: str, label: str) -> Sheet:
    heads = [Head(shorten(h.text), TEXT, "", h.notes) for h in s.labels]
    heads += [
        Head(shorten(h.text), NUMBER, shorten(h.group), h.notes, shorten_words(h.meaning))
        for _, h in s.columns
    ]
    rows = []
    for row in s.rows:
        notes = [row.notes, *[()] * len(row.labels)]
        labels = [Entry(shorten(t), notes=n) for t, n in zip(row.labels, notes, strict=False)]
        cells = [Entry(c.value, c.spread, c.n, c.bold, c.notes) for c in row.cells]
        rows.append((*labels, *cells))
    return Sheet(
        title=title,
        heads=tuple(heads),
        rows=tuple(rows),
        label=label,
        identity=identity,
        caption=filled(s.view.caption, {"data": title.split(",")[0], "split": s.split}),
        constants=tuple(shorten_words(text) for text in s.constants),
        remarks=tuple(shorten_words(text) for text in s.remarks),
        notes=tuple(shorten_words(text) for text in s.notes),
    )


def filled(caption: str, values: Mapping[str, str]) -> str:
    """Return a caption with {name} replaced by its value; other braces stay."""
    for name, value in values.items():
        caption = caption.replace(f"{{{name}}}", value)
    return clean(caption)


def safe_label(label: str) -> str:
    """Return a user's label without characters special to LaTeX, "" if nothing else is left."""
    safe = re.sub(r"[^\w:.+/ -]+", "-", clean(label), flags=re.ASCII)
    return safe if re.search(r"\w", safe) else ""


def label_of(title: str) -> str:
    """Return a label for LaTeX's \\ref."""
    return "tab:" + ("-".join(re.findall(r"[a-z0-9]+", title.casefold())) or "results")


def _title(s: Section) -> str:
    names: Sequence[str] = [s.view.renamed(shorten(source.dataset)) for source in s.sources]
    return f"{' + '.join(names)}, {shorten(s.split)} split"
