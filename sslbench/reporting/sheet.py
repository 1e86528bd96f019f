"""A table as it is printed: names fit to print, numbers as texts, whatever its format."""

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
    """One cell: a text or a mean, its spread over n seeds, and the numbers of its footnotes."""

    text: str
    spread: str = ""
    n: int = 0
    bold: bool = False
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Head:
    """A column's heading, what it stands below, and whether TEXT or NUMBERs stand in it.

    meaning: what a short heading stands for, "" where it needs no explanation.
    """

    text: str
    kind: str = TEXT
    group: str = ""
    notes: tuple[int, ...] = ()
    meaning: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table, its first columns TEXT.

    title: of the data; identity: what the data are by fingerprint; caption: the user's own, ""
    where there is none; label: of LaTeX's \\ref; constants: what all rows share; notes[i] is
    footnote i + 1, remarks have no number.
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
        """The remarks, after what the headings stand for."""
        meanings = [f"{h.text} = {h.meaning}" for h in self.heads if h.meaning]
        return [*([f"{'; '.join(meanings)}."] if meanings else []), *self.remarks]


def sheets(table: Table) -> list[Sheet]:
    """The sections of a table as they are printed."""
    titles = [_title(s) for s in table.sections]
    count = Counter(titles)
    found = []
    for section, title in zip(table.sections, titles, strict=True):
        identity = " + ".join(source.fingerprint[:12] for source in section.sources)
        if count[title] > 1:
            title = f"{title} (data {identity})"
        label = safe_label(section.view.label) or label_of(title)
        found.append(_sheet(section, title, shorten_words(identity), label))
    return found


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
    """A caption with {name} filled in; other braces stay."""
    for name, value in values.items():
        caption = caption.replace(f"{{{name}}}", value)
    return clean(caption)


def safe_label(label: str) -> str:
    """A user's label without what LaTeX would read as a command, "" where nothing else is left."""
    safe = re.sub(r"[^\w:.+/ -]+", "-", clean(label), flags=re.ASCII)
    return safe if re.search(r"\w", safe) else ""


def label_of(title: str) -> str:
    """A label for LaTeX's \\ref."""
    return "tab:" + ("-".join(re.findall(r"[a-z0-9]+", title.casefold())) or "results")


def _title(s: Section) -> str:
    names: Sequence[str] = [s.view.renamed(shorten(source.dataset)) for source in s.sources]
    return f"{' + '.join(names)}, {shorten(s.split)} split"
