"""Prints sheets on a terminal of any width: nothing is cut, whatever does not fit goes below.

A table that is too wide is split into groups of columns, each beside the rows' names, as on pages
(see `pages`); where the names alone leave no room for numbers, every row becomes a block of lines.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sslbench.reporting.labels import BLANK
from sslbench.reporting.pages import several_counts
from sslbench.reporting.sheet import NUMBER, TEXT, Entry, Head, Sheet

GAP = 2  # spaces between two columns
LABELS = 0.6  # of the width, at most, for the columns that name a row
INDENT = 4  # of the numbers in a block
HEADING = 14  # letters in a line of a number's heading, unless a word is longer


def sheet_to_terminal(sheet: Sheet, width: int) -> str:
    """The heading, the table in as many parts as it takes, and what there is to say of it."""
    screen = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    data = f" (data {sheet.identity})" if sheet.identity not in ("", sheet.title) else ""
    screen.print(Text(sheet.caption or sheet.title + data, overflow="fold"))
    screen.print()
    texts = [at for at, head in enumerate(sheet.heads) if head.kind == TEXT]
    numbers = [at for at, head in enumerate(sheet.heads) if head.kind == NUMBER]
    cells = _cells(sheet)
    widths = _widths(sheet, cells)
    room = min(LABELS * width, width - GAP - max((widths[at] for at in numbers), default=0))
    if numbers and _line(widths, texts) > room:
        _print_blocks(screen, sheet, cells, texts, numbers)
    else:
        for panel in _panels(widths, texts, numbers, width):
            screen.print(_table(sheet, cells, [*texts, *panel], widths))
            screen.print()
    for sentence in _said(sheet, data):
        screen.print(Text(sentence, overflow="fold"))
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _said(sheet: Sheet, data: str) -> list[str]:
    """What stands below a table."""
    said = [f"All models: {'; '.join(sheet.constants)}."] if sheet.constants else []
    if sheet.caption and sheet.identity:
        said.insert(0, f"Data: {sheet.title}{data}.")
    said += [line.replace("Bold:", "*…*:", 1) for line in sheet.legend()]
    return [*said, *(f"[{i}] {note}" for i, note in enumerate(sheet.notes, start=1))]


def _cells(sheet: Sheet) -> list[list[str]]:
    """Every cell as it is printed, row by row; how many seeds only where rows differ in it."""
    seeds = several_counts(sheet)
    return [[_text(entry, seeds) for entry in row] for row in sheet.rows]


def _widths(sheet: Sheet, cells: Sequence[Sequence[str]]) -> list[int]:
    """What each column takes with every cell on one line; headings wrap between words."""
    found = []
    for at, head in enumerate(sheet.heads):
        words = [cell_len(word) for word in _heading(head).split()] or [0]
        least = HEADING if head.kind == NUMBER else 0
        named = min(cell_len(_heading(head)), max(least, *words))
        found.append(max([named, *(cell_len(row[at]) for row in cells)]))
    return found


def _line(widths: Sequence[int], columns: Sequence[int]) -> int:
    return sum(widths[at] + GAP for at in columns) - GAP


def _panels(
    widths: Sequence[int], texts: Sequence[int], numbers: Sequence[int], width: int
) -> list[list[int]]:
    """The columns of numbers of each part, at least one; a part without any names the rows."""
    panels: list[list[int]] = [[]]
    for at in numbers:
        if panels[-1] and _line(widths, [*texts, *panels[-1], at]) > width:
            panels.append([])
        panels[-1].append(at)
    return panels


def _table(
    sheet: Sheet, cells: Sequence[Sequence[str]], columns: Sequence[int], widths: Sequence[int]
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_edge=False)
    for at in columns:
        table.add_column(
            Text(_heading(sheet.heads[at])),
            justify="right" if sheet.heads[at].kind == NUMBER else "left",
            width=widths[at],
            overflow="fold",
            vertical="bottom",
        )
    table.add_row(*(Text("-" * widths[at]) for at in columns))
    for row in cells:
        table.add_row(*(Text(row[at]) for at in columns))
    return table


def _print_blocks(
    screen: Console,
    sheet: Sheet,
    cells: Sequence[Sequence[str]],
    texts: Sequence[int],
    numbers: Sequence[int],
) -> None:
    """A block a row: what names it, then a line a number; what is blank is left out."""
    for row in cells:
        named = [f"{_heading(sheet.heads[at])} {row[at]}" for at in texts if row[at] != BLANK]
        screen.print(Text(", ".join(named), overflow="fold"))
        for at in numbers:
            if row[at] != BLANK:
                line = Text(f"{_heading(sheet.heads[at])}: {row[at]}", overflow="fold")
                screen.print(Padding(line, (0, 0, 0, INDENT)))
        screen.print()


def _heading(head: Head) -> str:
    return f"{head.group} {head.text}".strip() + _marks(head.notes)


def _text(entry: Entry, seeds: bool) -> str:
    count = f" (n={entry.n})" if seeds else ""
    spread = f" ± {entry.spread}{count}" if entry.spread else ""
    best = "*" if entry.bold else ""
    return f"{best}{entry.text}{spread}{best}{_marks(entry.notes)}"


def _marks(notes: Sequence[int]) -> str:
    return "".join(f"[{i}]" for i in notes)
