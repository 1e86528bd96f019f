"""The comparison table as a pure function of records; `formats` prints it.

A table never hides what it mixes: missing records are blank, and differing protocols, epochs,
features or seed counts carry a footnote. Another dataset, split or fingerprint is another section,
unless it completes the first (see `sources`).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from sslbench.reporting.layout import (
    BLANK,
    FLOORS,
    ColumnKey,
    Pairs,
    RowKey,
    check_layout,
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
from sslbench.reporting.sources import Part, Source, partition
from sslbench.reporting.store import latest

LEGEND = "Bold: best trained model of a column. ±: sample standard deviation over n seeds."


@dataclass(frozen=True)
class Header:
    """A column's name, the numbers of its footnotes and what it stands below: its benchmark."""

    text: str
    notes: tuple[int, ...] = ()
    group: str = ""


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
    """The results of datasets that complete each other, usually of one.

    notes[i] is footnote i + 1, remarks have no number.
    """

    sources: tuple[Source, ...]
    split: str
    labels: tuple[Header, ...]
    columns: tuple[tuple[ColumnKey, Header], ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    remarks: tuple[str, ...]

    def source(self, benchmark: str) -> Source:
        """The dataset that `benchmark` was run on."""
        return next(s for s in self.sources if benchmark in s.benchmarks)


@dataclass(frozen=True)
class Table:
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Measure:
    """The records behind one cell: one value per weights, all under one protocol and pool."""

    pool: str
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
    check_layout(layout)
    records = latest(results)
    pairs = main_columns({r.benchmark for r in records}) if main is None else main
    versions = Counter(
        d for d, *_ in {(r.dataset, r.split, r.dataset_fingerprint) for r in records}
    )
    several = {dataset for dataset, count in versions.items() if count > 1}
    return Table(tuple(_section(part, layout, pairs, several) for part in partition(records)))


def _section(part: Part, layout: str, main: Mapping[str, Pairs], several: set[str]) -> Section:
    rows, columns = group_rows(part.records), choose_columns(part.records, layout, main)
    fields = label_fields(list(rows))
    notes = _Footnotes()
    labels = tuple(Header(label_heading(f), notes.mark(_mixed(f, rows))) for f in fields)
    grid = {c: {k: m for k in rows if (m := measure(rows[k], c))} for c in columns}
    headers = tuple(
        (c, Header(heading(c), notes.mark(_judge(grid[c])), _group(c, part))) for c in columns
    )
    best = {c: _best(grid[c]) for c in columns}
    filled = []
    for key, members in rows.items():
        seeds = len({r.model.sha256 for r in members})
        cells = tuple(_cell(grid[c], key, best[c], seeds, notes) for c in columns)
        filled.append(Row(key, tuple(label(key, f) for f in fields), cells))
    remarks = (LEGEND, *_unpooled(rows), *_missing_floors(part.records), *_others(part, several))
    return Section(
        part.sources, part.split, labels, headers, tuple(filled), tuple(notes.texts), remarks
    )


def _group(column: ColumnKey, part: Part) -> str:
    """The column's benchmark, with its dataset where that is not the section's first."""
    named = {b: f"{b} ({s.dataset})" for s in part.sources[1:] for b in s.benchmarks}
    return named.get(column.benchmark, column.benchmark)


def _mixed(field: str, keys: Iterable[RowKey]) -> list[str]:
    """The footnote of a label column whose values make trained rows unequal."""
    labels = list(dict.fromkeys(label(k, field) for k in trained_only(keys)))
    if field == "weights":
        return ["Several weights share one seed, so each has its own row and none is averaged."]
    compared = ("arch", "pretrain_data", "epochs", "effective_epochs", "tokens", "pool")
    if field not in compared or len(labels) < 2:
        return []
    return [f"Rows differ in {label_heading(field)} ({', '.join(labels)})."]


def measure(members: list[Result], column: ColumnKey) -> Measure | None:
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
    return Measure(current[0].pool, means, newest, repeats, len(current) < len(found))


def _protocol(result: Result) -> dict[str, object]:
    """The protocol without its pool, which has its own column."""
    return {"version": result.version, **{k: v for k, v in result.protocol.items() if k != "pool"}}


def _same_protocol(measures: Iterable[Measure]) -> bool:
    return len({digest(m.protocol) for m in measures}) <= 1


def _best(cells: Mapping[RowKey, Measure]) -> float | None:
    """The best trained mean as displayed; None where there is nothing to compare."""
    rivals = _rivals(cells)
    if len(rivals) < 2 or not _same_protocol(cells.values()):
        return None
    return round(max(rivals), _digits(cells.values()))


def _rivals(cells: Mapping[RowKey, Measure]) -> list[float]:
    """The means of trained models; one that stands in several rows is no rival of itself."""
    means = {k._replace(pool=cells[k].pool): cells[k].mean for k in trained_only(cells)}
    return [m for m in means.values() if math.isfinite(m)]


def _judge(cells: Mapping[RowKey, Measure]) -> list[str]:
    """The footnotes of a column: different protocols, or a floor above every trained model."""
    protocols = [m.protocol for m in cells.values()]
    if not _same_protocol(cells.values()):
        names = sorted({name for p in protocols for name in p})
        differ = [n for n in names if len({digest(p.get(n, "none")) for p in protocols}) > 1]
        return [f"Protocols differ in {', '.join(differ)}: not comparable, so nothing is bold."]
    top = max(_rivals(cells), default=math.inf)
    above = sorted({k.method for k in cells if k.method in FLOORS and cells[k].mean > top})
    return [f"The floor {' and '.join(above)} is above every trained model."] if above else []


def _digits(measures: Iterable[Measure]) -> int:
    """Decimals of a column: one for percentages, three for fractions of one."""
    return 3 if all(abs(m.mean) <= 1 for m in measures) else 1


def _cell(
    cells: Mapping[RowKey, Measure], key: RowKey, best: float | None, seeds: int, notes: _Footnotes
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


def _missing_floors(records: Collection[Result]) -> list[str]:
    """The remark on floors nobody measured; the pixels only have one of pooled features."""
    present = {r.model.method for r in records}
    wanted = ("random-init", "pixels") if any(r.pool for r in records) else ("random-init",)
    missing = [f for f in wanted if f not in present]
    if present <= set(FLOORS) or not missing:
        return []
    return [f"No number without its floor: {' and '.join(missing)} not measured here."]


def _unpooled(rows: Mapping[RowKey, list[Result]]) -> list[str]:
    """The remark on numbers in rows whose features column does not speak of them."""
    names = sorted(
        {r.benchmark for k, found in rows.items() if k.pool for r in found if not r.pool}
    )
    if not names:
        return []
    return [
        f"{' and '.join(names)}: no pooled features, so all rows of a model show the same number, "
        "whatever its features column says."
    ]


def _others(part: Part, several: set[str]) -> list[str]:
    """The remark on datasets with another section."""
    names = [s.dataset for s in part.sources if s.dataset in several]
    if not names:
        return []
    what = "This dataset has" if len(part.sources) == 1 else f"{' and '.join(names)}: there are"
    return [f"{what} other splits or versions; their numbers do not compare."]
