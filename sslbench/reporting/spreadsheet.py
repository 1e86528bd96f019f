"""Writes tables as CSV for programs and spreadsheets; names cannot act as formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from sslbench.reporting.rows import RowKey
from sslbench.reporting.section import Table
from sslbench.reporting.texts import clean, data_name

COLUMN = ("benchmark", "setting", "metric", "mean", "std", "n", "best", "notes")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # prefixes of formulas


def to_csv(table: Table) -> str:
    """Return one line per cell: unrounded mean and std, number of seeds, footnotes."""
    head = ("dataset", "split", "fingerprint", *RowKey._fields, *COLUMN)
    return write([head, *_lines(table)])


def write(rows: Iterable[Sequence[str | float | None]]) -> str:
    """Return rows of texts and numbers; texts that look like formulas get the prefix '."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([_safe(cell) for cell in row] for row in rows)
    return file.getvalue()


def _lines(table: Table) -> Iterable[Sequence[str | float | None]]:
    for s in table.sections:
        for row in s.rows:
            row_key = row.key._replace(pretrain_data=data_name(row.key.pretrain_data))
            for (key, header), cell in zip(s.columns, row.cells, strict=True):
                marks = dict.fromkeys((*row.notes, *header.notes, *cell.notes))
                notes = " ".join(s.notes[i - 1] for i in marks)
                value = (cell.mean, cell.std, cell.n, int(cell.bold), notes)
                source = s.source(key.benchmark)
                data = (source.dataset, s.split, source.fingerprint)
                yield (*data, *row_key, *key, *value)


def _safe(cell: str | float | None) -> str | float | None:
    if not isinstance(cell, str):
        return cell
    text = clean(cell)
    return f"'{text}" if cell.startswith(FORMULA) or text.startswith(FORMULA) else text
