"""Fits a sheet to the pages of any LaTeX class: wraps columns and divides tables into parts.

All widths are in em of the table's font, estimated at 8 pt. The narrowest usual pages are those of
the article class, with lines of 345 pt at 10 pt, 360 pt at 11 pt and 390 pt at 12 pt.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from sslbench.reporting.sheet import NUMBER, TEXT, Entry, Head, Sheet
from sslbench.reporting.tex import width

PAGE, COLUMN = 41.0, 26.0  # width of a line, and of one of two columns, in \footnotesize
CLOSE = 45.0  # width of a line in \scriptsize, for tables that do not fit otherwise
GAP = 0.8  # between two columns
# Box widths are set in em, which grows faster with the font size than the letters do.
BOX = 0.94  # width of a box / estimated width
LABELS = 0.6  # largest share of a line for columns of text beside columns of numbers
MIN_WIDTH = 5.0  # of a column of text that wraps
HEADING = 13  # letters per line of a number's heading
GROUP = 20  # letters per line of a group heading
LINES = {"footnotesize": 42, "scriptsize": 51}  # per float, on a page of 12 pt
SMALL = {"footnotesize": 0.85, "scriptsize": 1.0}  # height of a line of the notes
SUBSCRIPT, MARK = 0.72, 0.45  # relative sizes of a spread and of a footnote's letter


@dataclass(frozen=True)
class Page:
    """One float: a sheet that fits, the width of each column, and which texts wrap."""

    sheet: Sheet
    widths: tuple[float, ...]
    wrapped: tuple[bool, ...]
    continued: bool = False

    @property
    def size(self) -> str:
        return "scriptsize" if self.width > PAGE else "footnotesize"

    @property
    def width(self) -> float:
        return _line(self.sheet.heads, self.widths)


def pages(sheet: Sheet) -> list[Page]:
    """Return the floats that print `sheet`, each of which fits on a page."""
    widths, wrapped = _fitted(sheet)
    labels = [i for i, head in enumerate(sheet.heads) if head.kind == TEXT]
    numbers = [i for i, head in enumerate(sheet.heads) if head.kind == NUMBER]
    floats: list[Page] = []
    for panel in _panels(labels, numbers, sheet.heads, widths):
        part = replace(
            sheet,
            heads=tuple(sheet.heads[i] for i in panel),
            rows=tuple(tuple(row[i] for i in panel) for row in sheet.rows),
        )
        page = Page(part, tuple(widths[i] for i in panel), tuple(wrapped[i] for i in panel))
        floats += _stacked(page, continued=bool(floats))
    return floats


class Lines(textwrap.TextWrapper):
    """Breaks lines at spaces, else within a name after `_`, `/` or a hyphen."""

    wordsep_re = re.compile(r"(\s+|(?<=\w\w[_/-]))")


def heading_lines(text: str) -> list[str]:
    """Return a column's heading in short lines."""
    return Lines(HEADING).wrap(text) or [""]


def group_lines(text: str) -> list[str]:
    """Return a group heading in short lines."""
    return Lines(GROUP).wrap(text) or [""]


def _line(heads: Sequence[Head], widths: Sequence[float]) -> float:
    """Return the width of a line of columns; wide group headings spread them."""
    total = -GAP
    pairs = zip(heads, widths, strict=True)
    for group, members in groupby(pairs, key=lambda item: item[0].group):
        columns = sum(column_width + GAP for _, column_width in members)
        total += max(columns, GAP + max(width(text, 1.0) for text in group_lines(group)))
    return total


def entry_width(entry: Entry, seeds: bool = False) -> float:
    """Return the width of a cell on one line; seeds: with the number of seeds of its spread."""
    spread = f"±{entry.spread}{f' ({entry.n})' if seeds else ''}" if entry.spread else ""
    mean = width(entry.text, 1.0, entry.bold)
    return mean + SUBSCRIPT * width(spread, 1.0) + MARK * len(entry.notes)


def several_counts(sheet: Sheet) -> bool:
    """Return whether spreads are over different numbers of seeds, which are printed then."""
    return len({entry.n for row in sheet.rows for entry in row if entry.spread}) > 1


def _natural(head: Head, cells: Sequence[Entry], seeds: bool) -> float:
    heading = max(width(text, 1.0) for text in heading_lines(head.text)) + MARK * len(head.notes)
    return max([heading, *(entry_width(cell, seeds) for cell in cells)])


def _fitted(sheet: Sheet) -> tuple[list[float], list[bool]]:
    """Return the width of each column, and whether its text wraps."""
    seeds = several_counts(sheet)
    columns = [[row[i] for row in sheet.rows] for i in range(len(sheet.heads))]
    natural = [_natural(h, cells, seeds) for h, cells in zip(sheet.heads, columns, strict=True)]
    texts = [i for i, head in enumerate(sheet.heads) if head.kind == TEXT]
    others = [i for i in range(len(natural)) if i not in texts]
    numbers = GAP + _line([sheet.heads[i] for i in others], [natural[i] for i in others])
    widths = list(natural)
    if _line(sheet.heads, natural) <= CLOSE:
        return widths, [False] * len(widths)
    allowed = max(LABELS * PAGE, PAGE - numbers) - GAP * (len(texts) - 1)
    while texts and sum(widths[i] for i in texts) > allowed:
        widest = max(texts, key=lambda i: widths[i])
        if widths[widest] <= MIN_WIDTH:
            break
        widths[widest] = max(MIN_WIDTH, widths[widest] - 0.5)
    return widths, [w < n for w, n in zip(widths, natural, strict=True)]


def _panels(
    labels: Sequence[int], numbers: Sequence[int], heads: Sequence[Head], widths: Sequence[float]
) -> list[list[int]]:
    """Return the columns of each part: the labels and evenly divided numbers that fit a line."""

    def line_width(panel: Sequence[int]) -> float:
        columns = [*labels, *panel]
        return _line([heads[i] for i in columns], [widths[i] for i in columns])

    panels: list[list[int]] = [[]]
    for column in numbers:
        if panels[-1] and line_width([*panels[-1], column]) > PAGE:
            panels.append([])
        panels[-1].append(column)
    share = math.ceil(len(numbers) / len(panels))
    even = [list(numbers[start : start + share]) for start in range(0, len(numbers), share)]
    if line_width(numbers) <= CLOSE:
        panels = [list(numbers)]
    elif all(line_width(panel) <= PAGE for panel in even):
        panels = even
    return [[*labels, *panel] for panel in panels]


def _stacked(page: Page, continued: bool) -> list[Page]:
    """Divide `page` into parts that fit a page in height, each with the notes of its rows."""
    parts: list[Page] = []
    rows: list[tuple[Entry, ...]] = []
    for row in page.sheet.rows:
        first = not (continued or parts)
        if rows and _height(page, [*rows, row], first) > LINES[page.size]:
            parts.append(_part(page, rows, first))
            rows = []
        rows.append(row)
    return [*parts, _part(page, rows, not (continued or parts))]


def _part(page: Page, rows: Sequence[tuple[Entry, ...]], first: bool) -> Page:
    """Return some rows with the notes that they and the headings need, renumbered."""
    sheet = page.sheet
    used = _used_notes(sheet.heads, rows)
    new = {old: number for number, old in enumerate(used, start=1)}
    heads = (replace(h, notes=tuple(new[i] for i in h.notes)) for h in sheet.heads)
    cells = (tuple(replace(e, notes=tuple(new[i] for i in e.notes)) for e in row) for row in rows)
    kept = replace(
        sheet,
        heads=tuple(heads),
        rows=tuple(cells),
        notes=tuple(sheet.notes[i - 1] for i in used),
        remarks=sheet.remarks if first else (),
        constants=sheet.constants if first else (),
    )
    return replace(page, sheet=kept, continued=not first)


def _used_notes(heads: Sequence[Head], rows: Sequence[tuple[Entry, ...]]) -> list[int]:
    marked: list[Head | Entry] = [*heads, *(entry for row in rows for entry in row)]
    return list(dict.fromkeys(number for item in marked for number in item.notes))


def _height(page: Page, rows: Sequence[tuple[Entry, ...]], first: bool) -> float:
    """Return the lines of a float with these rows, with its caption and notes."""
    sheet = page.sheet
    notes = [sheet.notes[i - 1] for i in _used_notes(sheet.heads, rows)]
    paragraph = " ".join([*notes, *sheet.legend()])
    caption = " ".join([sheet.caption or sheet.title, *(sheet.constants if first else ())])
    line = max(page.width, notes_width(page))
    note_height = SMALL[page.size]
    note_lines = 1 + width(paragraph, note_height) / (0.9 * line)
    head_lines = max(len(heading_lines(h.text)) for h in sheet.heads)
    head_lines += max(len(group_lines(h.group)) for h in sheet.heads) - 1
    return (
        6
        + head_lines
        + 1.3 * (1 + width(caption, 1.0) / COLUMN)
        + note_height * note_lines
        + sum(_row_lines(page, row) for row in rows)
    )


def notes_width(page: Page) -> float:
    """Return the smallest width at which a paragraph of notes is easy to read."""
    return 0.75 * (COLUMN if page.width <= COLUMN else PAGE)


def _row_lines(page: Page, row: Sequence[Entry]) -> int:
    """Return the lines of a row whose texts may wrap."""
    counts = [
        _box_lines(entry, BOX * column_width)
        for entry, column_width, wraps in zip(row, page.widths, page.wrapped, strict=True)
        if wraps
    ]
    return max(counts, default=1)


def _box_lines(entry: Entry, box_width: float) -> int:
    """Return the lines of a text in a box, with words broken that are wider than the box."""
    lines, used, space = 1, 0.0, width(" ", 1.0)
    for word in entry.text.split():
        size = width(word, 1.0)
        if used and used + size > box_width:
            lines, used = lines + 1, 0.0
        more = max(0, math.ceil(1.1 * size / box_width) - 1)
        lines, used = lines + more, box_width if more else used + size + space
    return lines
