"""Prints the records of a folder as tables, in every format."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sslbench import plugins
from sslbench.errors import UserError, nearest
from sslbench.reporting.comparison import compare
from sslbench.reporting.latex import sheets_to_latex
from sslbench.reporting.listing import Listing, listing_sheet, listing_to_csv
from sslbench.reporting.markdown import sheet_to_markdown
from sslbench.reporting.published import read_counterparts, read_figures
from sslbench.reporting.section import Table
from sslbench.reporting.sheet import sheets
from sslbench.reporting.spreadsheet import to_csv
from sslbench.reporting.store import Store
from sslbench.reporting.table import build
from sslbench.reporting.terminal import sheet_to_terminal
from sslbench.reporting.views import DEFAULT, View, layout_view
from sslbench.result import Result
from sslbench.storage.files import write_atomically

RECORDS = "records.jsonl"


def to_markdown(table: Table) -> str:
    """Return GitHub-flavoured Markdown, one heading and one table per section."""
    return "\n".join(map(sheet_to_markdown, sheets(table)))


def to_text(table: Table, width: int) -> str:
    """Return text for a terminal of `width` columns."""
    return "\n".join(sheet_to_terminal(sheet, width) for sheet in sheets(table))


def to_latex(table: Table) -> str:
    r"""Return floats to \input into a paper."""
    return sheets_to_latex(sheets(table))


FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "md": ("table.md", to_markdown),
    "latex": ("table.tex", to_latex),
    "csv": ("table.csv", to_csv),
}
LISTINGS: dict[str, Callable[[Listing], str]] = {
    "md": lambda listing: sheet_to_markdown(listing_sheet(listing)),
    "latex": lambda listing: sheets_to_latex([listing_sheet(listing, cite=True)]),
    "csv": listing_to_csv,
}


def write_tables(out: Path, layout: str = DEFAULT, width: int | None = None) -> str:
    """Write the table of all records in `out` to `out`, in every format; return it as Markdown.

    width: returns text for a terminal of that width instead. Without records, existing tables are
    kept.
    """
    table = _written(out, Store(out / RECORDS).load(), layout)
    return to_text(table, width) if width else to_markdown(table)


def _written(out: Path, records: Sequence[Result], layout: str = DEFAULT) -> Table:
    table = build(records, layout)
    for name, render in FORMATS.values() if records else ():
        write_atomically(out / name, partial(Path.write_text, data=render(table), encoding="utf-8"))
    return table


def render(records: Sequence[Result], view: View | str, style: str) -> str:
    """The table of `records` in one format, "md", "latex" or "csv"; UserError for another one."""
    _check_style(style)
    return FORMATS[style][1](build(records, view))


def table(out: Path, view: View | str, style: str, width: int | None = None) -> str:
    """Return the table of the records in `out` in one format, or for a terminal of that width.

    If `out` is writable, its tables are updated too.
    """
    _check_style(style)
    path = out / RECORDS
    if not path.exists():
        quoted = shlex.quote(str(out))
        raise UserError(f"{path} does not exist; run `sslbench evaluate --out {quoted}` first.")
    records = Store(path).load()
    result = build(records, view)
    text = to_text(result, width) if width else FORMATS[style][1](result)
    if os.access(out, os.W_OK):
        _written(out, records)
    return text


def published(out: Path, view: View | str, style: str, width: int | None = None) -> str:
    """Return the records in `out` beside the papers' figures, or only the figures, in one format.

    width: returns text for a terminal of that width instead.
    """
    _check_style(style)
    methods = plugins.available(plugins.METHODS)
    records = Store(out / RECORDS).load()
    view = layout_view(view, figures=True) if isinstance(view, str) else view
    if view.labels:
        raise UserError(
            "--labels, and layouts that set them, cannot be combined with --published; leave them "
            "out and use --columns."
        )
    listing = compare(records, read_figures(), read_counterparts(), methods, view)
    return sheet_to_terminal(listing_sheet(listing), width) if width else LISTINGS[style](listing)


def _check_style(style: str) -> None:
    if style not in FORMATS:
        raise UserError(f"unknown format {style!r}: {nearest(style, FORMATS)}.")
