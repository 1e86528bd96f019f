"""From the records of a folder to printed tables, in every format."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from sslbench import plugins
from sslbench.errors import UserError, nearest
from sslbench.reporting.comparison import compare
from sslbench.reporting.formats import to_csv, to_latex, to_markdown
from sslbench.reporting.listing import listing_to_csv, listing_to_latex, listing_to_markdown
from sslbench.reporting.published import read_counterparts, read_figures
from sslbench.reporting.store import Store
from sslbench.reporting.table import build
from sslbench.training.checkpoint import write_atomically

RECORDS = "records.jsonl"
FORMATS: dict[str, tuple[str, Callable[..., str]]] = {
    "md": ("table.md", to_markdown),
    "latex": ("table.tex", to_latex),
    "csv": ("table.csv", to_csv),
}


def write_tables(out: Path, layout: str = "frozen") -> str:
    """Writes the table of all records of `out` into it, in every format; returns the Markdown.

    A folder without records keeps the tables it has: none is replaced by an empty one.
    """
    records = Store(out / RECORDS).load()
    table = build(records, layout)
    for name, render in FORMATS.values() if records else ():
        write_atomically(out / name, partial(Path.write_text, data=render(table), encoding="utf-8"))
    return to_markdown(table)


def table(out: Path, layout: str, style: str) -> str:
    """The table of the records in `out` in one format."""
    if style not in FORMATS:
        raise UserError(f"unknown format {style!r}: {nearest(style, FORMATS)}.")
    path = out / RECORDS
    if not path.exists():
        raise UserError(f"{path} does not exist; run `sslbench evaluate --out {out}` first.")
    return FORMATS[style][1](build(Store(path).load(), layout))


def published(out: Path, layout: str, style: str) -> str:
    """The records in `out` beside the papers' figures, or the figures alone, in one format."""
    formats = {"md": listing_to_markdown, "latex": listing_to_latex, "csv": listing_to_csv}
    if style not in formats:
        raise UserError(f"unknown format {style!r}: {nearest(style, formats)}.")
    methods = plugins.available(plugins.METHODS)
    records = Store(out / RECORDS).load()
    return formats[style](compare(records, read_figures(), read_counterparts(), methods, layout))
