"""Fits a sheet to the pages of any LaTeX class: which columns wrap, what stands in which part.

All widths are in em of the table's font, as wide as 8 pt's. The narrowest usual pages are those of
the article class: 345 pt a line at 10 pt, 360 at 11 and 390 at 12, of which small fonts are these.
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

PAGE, COLUMN = 41.0, 26.0  # a line, and one of two columns, in \footnotesize
CLOSE = 45.0  # a line in \scriptsize, for what would not fit otherwise
GAP = 0.8  # between two columns
# A box's width is set in em, of which a line of a larger font holds fewer than of its letters.
BOX = 0.94  # of the width that is reckoned with
LABELS = 0.6  # of a line, at most, for columns of text beside columns of numbers
NARROWEST = 5.0  # of a column of text that wraps
HEADING = 13  # letters in a line of a number's heading
GROUP = 20  # and of what several headings stand below
LINES = {"footnotesize": 42, "scriptsize": 51}  # on a page of 12 pt, all of a float together
SMALL = {"footnotesize": 0.85, "scriptsize": 1.0}  # of a line: one of the notes
SUBSCRIPT, MARK = 0.72, 0.45  # sizes of a spread and of a footnote's letter


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
    """The floats that print `sheet`, each of which fits a page."""
    widths, wrapped = _fitted(sheet)
    labels = [at for at, head in enumerate(sheet.heads) if head.kind == TEXT]
    numbers = [at for at, head in enumerate(sheet.heads) if head.kind == NUMBER]
    found: list[Page] = []
    for shown in _panels(labels, numbers, sheet.heads, widths):
        part = replace(
            sheet,
            heads=tuple(sheet.heads[at] for at in shown),
            rows=tuple(tuple(row[at] for at in shown) for row in sheet.rows),
        )
        page = Page(part, tuple(widths[at] for at in shown), tuple(wrapped[at] for at in shown))
        found += _stacked(page, continued=bool(found))
    return found


class Lines(textwrap.TextWrapper):
    """Lines that end at a space, or within a name after `_`, `/` or a hyphen, if they can."""

    wordsep_re = re.compile(r"(\s+|(?<=\w\w[_/-]))")


def heading_lines(text: str) -> list[str]:
    """A column's heading in short lines."""
    return Lines(HEADING).wrap(text) or [""]


def group_lines(text: str) -> list[str]:
    """What several headings stand below, in short lines."""
    return Lines(GROUP).wrap(text) or [""]


def _line(heads: Sequence[Head], widths: Sequence[float]) -> float:
    """What columns take side by side: below a wide group heading they move apart."""
    total = -GAP
    together = zip(heads, widths, strict=True)
    for group, members in groupby(together, key=lambda item: item[0].group):
        columns = sum(wide + GAP for _, wide in members)
        total += max(columns, GAP + max(width(text, 1.0) for text in group_lines(group)))
    return total


def entry_width(entry: Entry, seeds: bool = False) -> float:
    """What a cell takes on one line, `seeds`: with the number of seeds of its spread."""
    spread = f"±{entry.spread}{f' ({entry.n})' if seeds else ''}" if entry.spread else ""
    mean = width(entry.text, 1.0, entry.bold)
    return mean + SUBSCRIPT * width(spread, 1.0) + MARK * len(entry.notes)


def several_counts(sheet: Sheet) -> bool:
    """Whether spreads are over different numbers of seeds, which then stand beside them."""
    return len({entry.n for row in sheet.rows for entry in row if entry.spread}) > 1


def _natural(head: Head, cells: Sequence[Entry], seeds: bool) -> float:
    named = max(width(text, 1.0) for text in heading_lines(head.text)) + MARK * len(head.notes)
    return max([named, *(entry_width(cell, seeds) for cell in cells)])


def _fitted(sheet: Sheet) -> tuple[list[float], list[bool]]:
    """The width of each column, and whether its text wraps there."""
    seeds = several_counts(sheet)
    columns = [[row[at] for row in sheet.rows] for at in range(len(sheet.heads))]
    natural = [_natural(h, cells, seeds) for h, cells in zip(sheet.heads, columns, strict=True)]
    texts = [at for at, head in enumerate(sheet.heads) if head.kind == TEXT]
    others = [at for at in range(len(natural)) if at not in texts]
    numbers = GAP + _line([sheet.heads[at] for at in others], [natural[at] for at in others])
    widths = list(natural)
    if _line(sheet.heads, natural) <= CLOSE:
        return widths, [False] * len(widths)
    allowed = max(LABELS * PAGE, PAGE - numbers) - GAP * (len(texts) - 1)
    while texts and sum(widths[at] for at in texts) > allowed:
        widest = max(texts, key=lambda at: widths[at])
        if widths[widest] <= NARROWEST:
            break
        widths[widest] = max(NARROWEST, widths[widest] - 0.5)
    return widths, [w < n for w, n in zip(widths, natural, strict=True)]


def _panels(
    labels: Sequence[int], numbers: Sequence[int], heads: Sequence[Head], widths: Sequence[float]
) -> list[list[int]]:
    """The columns of each part: the labels, and numbers that fit a line, evenly spread."""

    def taken(panel: Sequence[int]) -> float:
        shown = [*labels, *panel]
        return _line([heads[at] for at in shown], [widths[at] for at in shown])

    panels: list[list[int]] = [[]]
    for at in numbers:
        if panels[-1] and taken([*panels[-1], at]) > PAGE:
            panels.append([])
        panels[-1].append(at)
    share = math.ceil(len(numbers) / len(panels))
    even = [list(numbers[at : at + share]) for at in range(0, len(numbers), share)]
    if taken(numbers) <= CLOSE:
        panels = [list(numbers)]
    elif all(taken(panel) <= PAGE for panel in even):
        panels = even
    return [[*labels, *panel] for panel in panels]


def _stacked(page: Page, continued: bool) -> list[Page]:
    """`page` in as many parts as its height asks for; notes stand below the rows they belong to."""
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
    """Some rows with the notes that they and the headings need, numbered anew."""
    sheet = page.sheet
    used = _used(sheet.heads, rows)
    new = {old: at for at, old in enumerate(used, start=1)}
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


def _used(heads: Sequence[Head], rows: Sequence[tuple[Entry, ...]]) -> list[int]:
    marked: list[Head | Entry] = [*heads, *(entry for row in rows for entry in row)]
    return list(dict.fromkeys(number for item in marked for number in item.notes))


def _height(page: Page, rows: Sequence[tuple[Entry, ...]], first: bool) -> float:
    """Lines that a float with these rows takes, its caption and notes included."""
    sheet = page.sheet
    notes = [sheet.notes[i - 1] for i in _used(sheet.heads, rows)]
    said = " ".join([*notes, *sheet.legend()])
    caption = " ".join([sheet.caption or sheet.title, *(sheet.constants if first else ())])
    line = max(page.width, notes_width(page))
    less = SMALL[page.size]
    small = 1 + width(said, less) / (0.9 * line)
    head = max(len(heading_lines(h.text)) for h in sheet.heads)
    head += max(len(group_lines(h.group)) for h in sheet.heads) - 1
    return (
        6
        + head
        + 1.3 * (1 + width(caption, 1.0) / COLUMN)
        + less * small
        + sum(_lines(page, row) for row in rows)
    )


def notes_width(page: Page) -> float:
    """The narrowest paragraph of notes that is easy to read."""
    return 0.75 * (COLUMN if page.width <= COLUMN else PAGE)


def _lines(page: Page, row: Sequence[Entry]) -> int:
    """Lines that a row takes where texts wrap."""
    taken = [
        _box_lines(entry, BOX * wide)
        for entry, wide, wraps in zip(row, page.widths, page.wrapped, strict=True)
        if wraps
    ]
    return max(taken, default=1)


def _box_lines(entry: Entry, wide: float) -> int:
    """Lines of a text in a box: as many words each as fit, longer ones broken."""
    lines, used, space = 1, 0.0, width(" ", 1.0)
    for word in entry.text.split():
        size = width(word, 1.0)
        if used and used + size > wide:
            lines, used = lines + 1, 0.0
        more = max(0, math.ceil(1.1 * size / wide) - 1)
        lines, used = lines + more, wide if more else used + size + space
    return lines
