"""The columns of a table: their keys, names and which values are better."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.reporting.texts import natural
from sslbench.result import Result

log = logging.getLogger(__name__)
HIGHER, LOWER = "higher", "lower"
ALL = "all"  # the layout that shows every column

Pairs = Sequence[tuple[str, str]]  # (setting, metric)


class ColumnKey(NamedTuple):
    """Identifies one column."""

    benchmark: str
    setting: str
    metric: str


def _no_direction(setting: str, metric: str) -> str:
    return ""


@dataclass(frozen=True)
class Conventions:
    """How one benchmark's results are shown; see `Benchmark`. Unknown benchmarks are not ranked."""

    main: Pairs = ()
    direction: Callable[[str, str], str] = _no_direction
    headings: Mapping[tuple[str, str], str] = field(default_factory=dict)


Known = Mapping[str, Conventions]  # by benchmark


def installed_conventions(benchmarks: Iterable[str]) -> dict[str, Conventions]:
    """Return the conventions of those `benchmarks` that are installed."""
    installed = plugins.available(plugins.BENCHMARKS)
    conventions = {}
    for name in sorted(set(benchmarks) & set(installed)):
        try:
            kind = plugins.load(plugins.BENCHMARKS, name)
        except UserError as error:  # its records are shown as if it were not installed
            log.warning("%s", error)
            continue
        conventions[name] = Conventions(kind.main, kind.direction, kind.headings)
    return conventions


def direction_of(column: ColumnKey, known: Known) -> str:
    """Return HIGHER or LOWER, "" if the benchmark does not define which is better."""
    direction = known.get(column.benchmark, Conventions()).direction(column.setting, column.metric)
    return direction if direction in (HIGHER, LOWER) else ""


def choose_columns(
    records: Collection[Result], everything: bool, known: Known, wanted: Sequence[str] = ()
) -> list[ColumnKey]:
    """Return columns by benchmark, main ones first, then in natural order ("k=5" before "k=20").

    Benchmarks of pooled features come before the others. wanted: names of the only columns to
    return, in that order, see `matching_columns`; names without a match are ignored.
    """
    columns: list[ColumnKey] = []
    recorded = {ColumnKey(r.benchmark, r.setting, r.metric) for r in records}
    pooled = {r.benchmark for r in records if r.pool}
    main: list[ColumnKey] = []
    for benchmark in sorted({c.benchmark for c in recorded}, key=lambda b: (b not in pooled, b)):
        pairs = known.get(benchmark, Conventions()).main
        first = [ColumnKey(benchmark, *pair) for pair in pairs]
        others = [c for c in recorded - set(first) if c.benchmark == benchmark]
        rest = sorted(others, key=lambda column: natural(" ".join(column)))
        # all columns of a benchmark without main columns are shown
        main += first or rest
        columns += first + rest if everything or wanted or not first else first
    if not wanted:
        return columns
    matches = [c for item in wanted for c in matching_columns(item, columns, main, known)]
    return list(dict.fromkeys(matches))


def check_columns(
    wanted: Sequence[str], columns: Sequence[ColumnKey], known: Known, partial: bool
) -> None:
    """Raise UserError for an item of `wanted` that matches none of `columns`.

    partial: only if all items do not.
    """
    unknown = [item for item in wanted if not matching_columns(item, columns, columns, known)]
    if unknown and not (partial and len(unknown) < len(wanted)):
        # without commas, which separate items, so that every name can be used as printed
        names = ", ".join(dict.fromkeys(full_heading(c).replace(",", "") for c in columns))
        raise UserError(f"no column matches {unknown[0]!r}; there are: {names or 'none'}.")


def matching_columns(
    item: str, columns: Sequence[ColumnKey], main: Collection[ColumnKey], known: Known
) -> list[ColumnKey]:
    """Return the columns that an item such as "k-NN", "knn k=10" or "linear" means.

    An item is a column's name in papers or its full name, else a benchmark's name and any words of
    its setting and metric. Columns whose metric is named, and main columns, precede others.
    """
    words = _words(item)
    if by_short_name := [c for c in columns if words == _words(short_heading(c, known))]:
        return by_short_name
    if by_full_name := [c for c in columns if words == _words(full_heading(c))]:
        return by_full_name
    matches = [
        c
        for c in columns
        if words[:1] == [c.benchmark.casefold()] and set(words) <= set(_words(full_heading(c)))
    ]
    if all(words != _words(f"{c.benchmark} {c.setting}") for c in matches):
        matches = [c for c in matches if set(_words(c.metric)) <= set(words[1:])] or matches
    return [c for c in matches if c in main] or matches


def _words(text: str) -> list[str]:
    return text.casefold().replace(",", " ").split()


def heading(column: ColumnKey) -> str:
    """Return a column's name without its benchmark's."""
    return " ".join(part for part in column[1:] if part)


def full_heading(column: ColumnKey) -> str:
    """Return a column's name with its benchmark's."""
    return f"{column.benchmark} {heading(column)}".strip()


def short_heading(column: ColumnKey, known: Known) -> str:
    """Return the column's name in papers, "" if the benchmark defines none."""
    headings = known.get(column.benchmark, Conventions()).headings
    return headings.get((column.setting, column.metric), "")
