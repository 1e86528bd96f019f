"""The comparison table as a pure function of records; `formats` prints it.

A table never hides what it mixes: missing records are blank, and differing protocols, epochs,
features or seed counts carry a footnote. Another dataset, split or fingerprint is another section.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from sslbench.errors import UserError, nearest
from sslbench.reporting.layout import (
    BLANK,
    FLOORS,
    LAYOUTS,
    ColumnKey,
    Pairs,
    RowKey,
    choose_columns,
    group_rows,
    heading,
    label,
    label_fields,
    label_heading,
    main_columns,
    trained_only,
)
from sslbench.reporting.result import Result, digest
from sslbench.reporting.store import latest

LEGEND = "Bold: best trained model of a column. ±: sample standard deviation over n seeds."


@dataclass(frozen=True)
class Header:
    """A column's name and the numbers of its footnotes."""

    text: str
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cell:
    """mean and std (None for one seed) over n seeds; mean is None and text a dash if n is 0."""

    text: str = BLANK
    mean: float | None = None
    std: float | None = None
    n: int = 0
    bold: bool = False
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    key: RowKey
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """The results of one dataset; notes[i] is footnote i + 1, remarks have no number."""

    dataset: str
    split: str
    fingerprint: str
    labels: tuple[Header, ...]
    columns: tuple[tuple[ColumnKey, Header], ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class _Measure:
    """The records behind one cell: one value per weights, all under one protocol."""

    values: tuple[float, ...]
    protocol: Mapping[str, object]
    evaluations: tuple[int, ...]  # evaluation seeds averaged for each value
    superseded: bool

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def std(self) -> float | None:
        if len(self.values) == 1:
            return None
        return stdev(self.values) if math.isfinite(self.mean) else math.nan

    def text(self, digits: int) -> str:
        mean, n = f"{self.mean:.{digits}f}", len(self.values)
        return mean if self.std is None else f"{mean} ± {self.std:.{digits}f} (n={n})"


class _Footnotes:
    """Numbers footnotes in order of appearance; the same sentence keeps its number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, texts: Iterable[str]) -> tuple[int, ...]:
        wanted = list(texts)
        self.texts += [t for t in dict.fromkeys(wanted) if t not in self.texts]
        return tuple(self.texts.index(t) + 1 for t in wanted)


def build(
    results: Iterable[Result], layout: str = "frozen", main: Mapping[str, Pairs] | None = None
) -> Table:
    """The table of `results`, whatever their order.

    layout: "frozen" shows each benchmark's main (setting, metric) pairs, "all" shows everything.
    main: those pairs by benchmark; by default asked from the installed benchmarks.
    Raises UserError for an unknown layout.
    """
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout {layout!r}: {nearest(layout, LAYOUTS)}.")
    records = latest(results)
    pairs = main_columns({r.benchmark for r in records}) if main is None else main
    datasets = defaultdict(list)
    for r in records:
        datasets[r.dataset, r.split, r.dataset_fingerprint].append(r)
    variants = Counter(dataset for dataset, _, _ in datasets)
    return Table(
        tuple(
            _section(name, datasets[name], layout, pairs, variants[name[0]])
            for name in sorted(datasets)
        )
    )


def _section(
    name: tuple[str, str, str],
    records: list[Result],
    layout: str,
    main: Mapping[str, Pairs],
    variants: int,
) -> Section:
    rows, columns = group_rows(records), choose_columns(records, layout, main)
    fields = label_fields(list(rows))
    notes = _Footnotes()
    labels = tuple(Header(label_heading(f), notes.mark(_mixed(f, rows))) for f in fields)
    grid = {c: {k: m for k in rows if (m := _measure(rows[k], c))} for c in columns}
    headers = tuple((c, Header(heading(c), notes.mark(_judge(grid[c])))) for c in columns)
    best = {c: _best(grid[c]) for c in columns}
    filled = []
    for key, members in rows.items():
        seeds = len({r.model.sha256 for r in members})
        cells = tuple(_cell(grid[c], key, best[c], seeds, notes) for c in columns)
        filled.append(Row(key, tuple(label(key, f) for f in fields), cells))
    remarks = (LEGEND, *_missing_floors(list(rows)))
    if variants > 1:
        remarks += ("This dataset has other splits or versions; their numbers do not compare.",)
    return Section(*name, labels, headers, tuple(filled), tuple(notes.texts), remarks)


def _mixed(field: str, keys: Iterable[RowKey]) -> list[str]:
    """The footnote of a label column whose values make trained rows unequal."""
    labels = list(dict.fromkeys(label(k, field) for k in trained_only(keys)))
    if field == "weights":
        return ["Several weights share one seed, so each has its own row and none is averaged."]
    compared = ("arch", "pretrain_data", "epochs", "effective_epochs", "pool")
    if field not in compared or len(labels) < 2:
        return []
    return [f"Rows differ in {label_heading(field)} ({', '.join(labels)})."]


def _measure(members: list[Result], column: ColumnKey) -> _Measure | None:
    """One row's records of one column, of the newest protocol where there are several."""
    found = [r for r in members if (r.benchmark, r.setting, r.metric) == column]
    if not found:
        return None
    newest = _protocol(max(found, key=lambda r: (r.date, r.protocol_hash)))
    current = [r for r in found if digest(_protocol(r)) == digest(newest)]
    by_weights = defaultdict(list)
    for r in current:
        by_weights[r.model.sha256].append(r.value)
    repeats = tuple(sorted({len(v) for v in by_weights.values()}))
    means = tuple(sorted(fmean(v) for v in by_weights.values()))
    return _Measure(means, newest, repeats, len(current) < len(found))


def _protocol(result: Result) -> dict[str, object]:
    """The protocol without its pool, which has its own column."""
    return {"version": result.version, **{k: v for k, v in result.protocol.items() if k != "pool"}}


def _same_protocol(measures: Iterable[_Measure]) -> bool:
    return len({digest(m.protocol) for m in measures}) <= 1


def _best(cells: Mapping[RowKey, _Measure]) -> float | None:
    """The best trained mean as displayed; None where there is nothing to compare."""
    rivals = _rivals(cells)
    if len(rivals) < 2 or not _same_protocol(cells.values()):
        return None
    return round(max(rivals), _digits(cells.values()))


def _rivals(cells: Mapping[RowKey, _Measure]) -> list[float]:
    return [m for k in trained_only(cells) if math.isfinite(m := cells[k].mean)]


def _judge(cells: Mapping[RowKey, _Measure]) -> list[str]:
    """The footnotes of a column: different protocols, or a floor above every trained model."""
    protocols = [m.protocol for m in cells.values()]
    if not _same_protocol(cells.values()):
        names = sorted({name for p in protocols for name in p})
        differ = [n for n in names if len({digest(p.get(n, "none")) for p in protocols}) > 1]
        return [f"Protocols differ in {', '.join(differ)}: not comparable, so nothing is bold."]
    top = max(_rivals(cells), default=math.inf)
    above = sorted({k.method for k in cells if k.method in FLOORS and cells[k].mean > top})
    return [f"The floor {' and '.join(above)} is above every trained model."] if above else []


def _digits(measures: Iterable[_Measure]) -> int:
    """Decimals of a column: one for percentages, three for fractions of one."""
    return 3 if all(abs(m.mean) <= 1 for m in measures) else 1


def _cell(
    cells: Mapping[RowKey, _Measure], key: RowKey, best: float | None, seeds: int, notes: _Footnotes
) -> Cell:
    m = cells.get(key)
    if m is None:
        return Cell()
    digits, n = _digits(cells.values()), len(m.values)
    said = []
    if n < seeds:
        said.append(f"{n} of this row's {seeds} seeds.")
    if m.evaluations != (1,):
        said.append(f"Each seed averaged over {_span(m.evaluations)} evaluation seeds.")
    if m.superseded:
        said.append("Records of an older protocol exist and are left out.")
    bold = key.method not in FLOORS and best is not None and round(m.mean, digits) == best
    return Cell(m.text(digits), m.mean, m.std, n, bold, notes.mark(said))


def _span(counts: tuple[int, ...]) -> str:
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


def _missing_floors(keys: list[RowKey]) -> list[str]:
    missing = [f for f in FLOORS if f not in {k.method for k in keys}]
    if not trained_only(keys) or not missing:
        return []
    return [f"No number without its floor: {' and '.join(missing)} not measured here."]
