"""Prints sheets on a terminal of any width without cutting anything off.

A table that is too wide is split into groups of columns, each with the rows' names, as in `pages`.
If the names leave no room for numbers, every row becomes a block of lines.
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
LABELS = 0.6  # largest share of the width for the columns that name a row
INDENT = 4  # of the numbers in a block
HEADING = 14  # letters per line of a number's heading, unless a word is longer


def sheet_to_terminal(sheet: Sheet, width: int) -> str:
    """Return the heading, the table in as many parts as needed, its remarks and notes."""
    screen = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    data = f" (data {sheet.identity})" if sheet.identity not in ("", sheet.title) else ""
    screen.print(Text(sheet.caption or sheet.title + data, overflow="fold"))
    screen.print()
    texts = [i for i, head in enumerate(sheet.heads) if head.kind == TEXT]
    numbers = [i for i, head in enumerate(sheet.heads) if head.kind == NUMBER]
    cells = _cells(sheet)
    widths = _widths(sheet, cells)
    room = min(LABELS * width, width - GAP - max((widths[i] for i in numbers), default=0))
    if numbers and _line(widths, texts) > room:
        _print_blocks(screen, sheet, cells, texts, numbers)
    else:
        for panel in _panels(widths, texts, numbers, width):
            screen.print(_table(sheet, cells, [*texts, *panel], widths))
            screen.print()
    for sentence in _sentences(sheet, data):
        screen.print(Text(sentence, overflow="fold"))
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _sentences(sheet: Sheet, data: str) -> list[str]:
    """Return the sentences below a table."""
    sentences = [f"All models: {'; '.join(sheet.constants)}."] if sheet.constants else []
    if sheet.caption and sheet.identity:
        sentences.insert(0, f"Data: {sheet.title}{data}.")
    sentences += [line.replace("Bold:", "*…*:", 1) for line in sheet.legend()]
    return [*sentences, *(f"[{i}] {note}" for i, note in enumerate(sheet.notes, start=1))]


def _cells(sheet: Sheet) -> list[list[str]]:
    """Return the text of every cell, row by row; with the number of seeds only if rows differ."""
    seeds = several_counts(sheet)
    return [[_text(entry, seeds) for entry in row] for row in sheet.rows]


def _widths(sheet: Sheet, cells: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column with every cell on one line; headings wrap at spaces."""
    widths = []
    for index, head in enumerate(sheet.heads):
        words = [cell_len(word) for word in _heading(head).split()] or [0]
        minimum = HEADING if head.kind == NUMBER else 0
        heading_width = min(cell_len(_heading(head)), max(minimum, *words))
        widths.append(max([heading_width, *(cell_len(row[index]) for row in cells)]))
    return widths


def _line(widths: Sequence[int], columns: Sequence[int]) -> int:
    return sum(widths[i] + GAP for i in columns) - GAP


def _panels(
    widths: Sequence[int], texts: Sequence[int], numbers: Sequence[int], width: int
) -> list[list[int]]:
    """Return the columns of numbers of each part, as many as fit but at least one, if any."""
    panels: list[list[int]] = [[]]
    for column in numbers:
        if panels[-1] and _line(widths, [*texts, *panels[-1], column]) > width:
            panels.append([])
        panels[-1].append(column)
    return panels


def _table(
    sheet: Sheet, cells: Sequence[Sequence[str]], columns: Sequence[int], widths: Sequence[int]
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_edge=False)
    for column in columns:
        table.add_column(
            Text(_heading(sheet.heads[column])),
            justify="right" if sheet.heads[column].kind == NUMBER else "left",
            width=widths[column],
            overflow="fold",
            vertical="bottom",
        )
    table.add_row(*(Text("-" * widths[i]) for i in columns))
    for row in cells:
        table.add_row(*(Text(row[i]) for i in columns))
    return table


def _print_blocks(
    screen: Console,
    sheet: Sheet,
    cells: Sequence[Sequence[str]],
    texts: Sequence[int],
    numbers: Sequence[int],
) -> None:
    """Print each row as a block: its labels, then one line per number; blanks are left out."""
    for row in cells:
        labels = [f"{_heading(sheet.heads[i])} {row[i]}" for i in texts if row[i] != BLANK]
        screen.print(Text(", ".join(labels), overflow="fold"))
        for i in numbers:
            if row[i] != BLANK:
                line = Text(f"{_heading(sheet.heads[i])}: {row[i]}", overflow="fold")
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
