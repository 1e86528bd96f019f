"""The comparison table as a pure function of records; `rendering` prints it.

A table never hides differences: missing records are blank, and differing protocols, epochs,
features or seed counts have a footnote. Another dataset or split is another section, unless it
complements the first (see `sources`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from sslbench.errors import UserError
from sslbench.reporting.columns import (
    ColumnKey,
    Known,
    check_columns,
    choose_columns,
    direction_of,
    full_heading,
    heading,
    installed_conventions,
    short_heading,
)
from sslbench.reporting.labels import (
    Labels,
    card_notes,
    difference_notes,
    differing_settings,
    label_rows,
    settings_notes,
)
from sslbench.reporting.measures import (
    Measure,
    best_of,
    better_floors,
    digits_of,
    measure,
    printed,
    same_protocol,
    ties,
)
from sslbench.reporting.remarks import remarks_on
from sslbench.reporting.rows import FLOORS, RowKey, Rows, group_rows
from sslbench.reporting.section import Cell, Footnotes, Header, Row, Section, Table
from sslbench.reporting.sources import Part, partition
from sslbench.reporting.store import latest
from sslbench.reporting.texts import natural
from sslbench.reporting.views import DEFAULT, View, fits, layout_view
from sslbench.result import Result, digest

NO_INPUT = "A record of an older version without mean and std of the input."

Grid = Mapping[ColumnKey, Mapping[RowKey, Measure]]


def build(
    results: Iterable[Result], view: View | str = DEFAULT, known: Known | None = None
) -> Table:
    """Return the table of `results`, in any order.

    view: what to show, or a layout's name. known: conventions of the benchmarks; by default those
    of the installed ones. Raises UserError for a layout, row, column or label that does not exist.
    """
    view = layout_view(view) if isinstance(view, str) else view
    records = latest(results)
    known = installed_conventions({r.benchmark for r in records}) if known is None else known
    check_columns(view.columns, choose_columns(records, True, known), known, view.partial)
    parts = partition(records)
    _check_rows(view.rows, [_names(key) for part in parts for key in group_rows(part.records)])
    versions = Counter(source.dataset for part in parts for source in part.sources)
    several = {name for name, count in versions.items() if count > 1}
    sections = [_section(part, view, known, several) for part in parts]
    return Table(tuple(s for s in sections if s.rows and s.columns))


def _section(part: Part, view: View, known: Known, several: Collection[str]) -> Section:
    columns = choose_columns(part.records, view.everything, known, view.columns)
    part = part.of({c.benchmark for c in columns})
    all_rows = group_rows(part.records)
    rows = _chosen_rows(all_rows, view)
    grid = {c: {k: m for k in rows if (m := measure(rows[k], c))} for c in columns}
    notes, labels = Footnotes(), label_rows(rows, view.labels)
    heads = tuple(
        Header(view.renamed(x.heading), notes.mark(difference_notes(x))) for x in labels.columns
    )
    headings = _headings(grid, part, view, known, notes)
    table_rows = _rows(rows, labels, view, grid, known, notes)
    constants = tuple(
        f"{view.renamed(name)} {view.renamed(text)}" for name, text in labels.constant
    )
    cells = [cell for row in table_rows for cell in row.cells]
    without_input = [m for cells in grid.values() for m in cells.values() if not m.inputs]
    return Section(
        sources=part.sources,
        split=part.split,
        labels=heads,
        columns=headings,
        rows=table_rows,
        notes=tuple(notes.texts),
        remarks=(*remarks_on(part, all_rows, cells, several, bool(without_input)), *view.notes),
        constants=constants,
        view=view,
    )


def _check_rows(patterns: Sequence[str], rows: Collection[Sequence[str]]) -> None:
    for pattern in patterns:
        if not any(fits(pattern, names) for names in rows):
            available = dict.fromkeys(name for names in rows for name in names[:2] if name)
            listing = ", ".join(available) or "none"
            raise UserError(f"no row matches {pattern!r}; there are: {listing}.")


def _chosen_rows(rows: Rows, view: View) -> dict[RowKey, list[Result]]:
    """Return the rows that the view shows, in its order."""
    keys = [k for k in rows if view.floors or k.method not in FLOORS]
    if view.sort and keys:
        columns = label_rows(rows, view.sort).columns
        keys.sort(key=lambda k: [natural(column.texts[k]) for column in columns])
    if view.rows:
        keys = list(dict.fromkeys(k for p in view.rows for k in keys if fits(p, _names(k))))
    return {k: rows[k] for k in keys}


def _names(key: RowKey) -> list[str]:
    """Return the names by which a row can be selected."""
    words = (key.label, key.method, key.arch, key.pretrain_data, key.pool, key.recipe)
    return [*words, f"{key.epochs:.6g}", key.weights[:8], key.config]


def _headings(
    grid: Grid, part: Part, view: View, known: Known, notes: Footnotes
) -> tuple[tuple[ColumnKey, Header], ...]:
    """Return short names if they are unique, else full ones below their benchmarks."""
    short = [short_heading(c, known) for c in grid]
    datasets = {b: f" on {s.dataset}" for s in part.sources[1:] for b in s.benchmarks}
    headings = []
    for column, name in zip(grid, short, strict=True):
        marks = notes.mark(_differences(grid[column], direction_of(column, known)))
        if name and short.count(name) == 1:
            meaning = f"{full_heading(column)}{datasets.get(column.benchmark, '')}"
            header = Header(view.renamed(name), marks, meaning=meaning)
        else:
            header = Header(view.renamed(heading(column)), marks, _group(column, part))
        headings.append((column, header))
    return tuple(headings)


def _group(column: ColumnKey, part: Part) -> str:
    """Return the column's benchmark, with its dataset unless that is the section's first."""
    named = {b: f"{b} ({s.dataset})" for s in part.sources[1:] for b in s.benchmarks}
    return named.get(column.benchmark, column.benchmark)


def _differences(cells: Mapping[RowKey, Measure], direction: str) -> list[str]:
    """Return the footnotes of a column: differing protocols, or a floor above all models."""
    protocols = [m.protocol for m in cells.values()]
    if not same_protocol(cells.values()):
        names = sorted({name for p in protocols for name in p})
        differ = [n for n in names if len({digest(p.get(n, "none")) for p in protocols}) > 1]
        return [f"Protocols differ in {', '.join(differ)}: not comparable, so nothing is bold."]
    floors = " and ".join(better_floors(cells, direction))
    return [f"The floor {floors} is better than every trained model."] if floors else []


def _rows(
    rows: Rows, labels: Labels, view: View, grid: Grid, known: Known, notes: Footnotes
) -> tuple[Row, ...]:
    settings = differing_settings(rows)
    best = {c: best_of(cells, direction_of(c, known)) for c, cells in grid.items()}
    inputs = {m.inputs for cells in grid.values() for m in cells.values()}
    table_rows = []
    for key, members in rows.items():
        marks = notes.mark([*card_notes(members), *settings_notes(settings[key])])
        seeds = len({r.model.sha256 for r in members})
        cells = (_cell(grid[c], key, best[c], seeds, len(inputs) > 1, notes) for c in grid)
        texts = tuple(view.renamed(column.texts[key]) for column in labels.columns)
        table_rows.append(Row(key, texts, tuple(cells), marks))
    return tuple(table_rows)


def _cell(
    cells: Mapping[RowKey, Measure],
    key: RowKey,
    best: Measure | None,
    seeds: int,
    inputs_differ: bool,
    notes: Footnotes,
) -> Cell:
    m = cells.get(key)
    if m is None:
        return Cell()
    if not m.values:
        return Cell(notes=notes.mark(m.missing))
    digits, n = digits_of(cells.values()), len(m.values)
    sentences = [*m.missing, *([f"{n} of this row's {seeds} seeds."] if n < seeds else [])]
    if m.evaluations != (1,):
        sentences.append(f"Each seed averaged over {_span(m.evaluations)} evaluation seeds.")
    if m.superseded:
        sentences.append("Records of an older protocol exist and are left out.")
    if inputs_differ and not m.inputs:
        sentences.append(NO_INPUT)
    bold = key.method not in FLOORS and best is not None and ties(m, best, digits)
    spread = "" if m.std is None else printed(m.std, digits)
    return Cell(printed(m.mean, digits), spread, m.mean, m.std, n, bold, notes.mark(sentences))


def _span(counts: tuple[int, ...]) -> str:
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
