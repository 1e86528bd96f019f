"""What a table's columns stand for, their names and which values are better."""

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
    """What one column stands for."""

    benchmark: str
    setting: str
    metric: str


def _neither(setting: str, metric: str) -> str:
    return ""


@dataclass(frozen=True)
class Conventions:
    """How one benchmark's results are shown; see `Benchmark`. Unknown ones are never ranked."""

    main: Pairs = ()
    direction: Callable[[str, str], str] = _neither
    headings: Mapping[tuple[str, str], str] = field(default_factory=dict)


Known = Mapping[str, Conventions]  # by benchmark


def installed_conventions(benchmarks: Iterable[str]) -> dict[str, Conventions]:
    """Those of the `benchmarks` that are installed."""
    installed = plugins.available(plugins.BENCHMARKS)
    found = {}
    for name in sorted(set(benchmarks) & set(installed)):
        try:
            kind = plugins.load(plugins.BENCHMARKS, name)
        except UserError as error:  # its records are shown as those of one that is not installed
            log.warning("%s", error)
            continue
        found[name] = Conventions(kind.main, kind.direction, kind.headings)
    return found


def direction_of(column: ColumnKey, known: Known) -> str:
    """HIGHER or LOWER, "" where nobody says which is better."""
    said = known.get(column.benchmark, Conventions()).direction(column.setting, column.metric)
    return said if said in (HIGHER, LOWER) else ""


def choose_columns(
    records: Collection[Result], everything: bool, known: Known, wanted: Sequence[str] = ()
) -> list[ColumnKey]:
    """Columns by benchmark, main ones first, then in natural order ("k=5" before "k=20").

    Benchmarks of pooled features come before the others. wanted: those that are asked for, in that
    order, see `asked`; a table without any of them shows what it has of them: nothing.
    """
    columns: list[ColumnKey] = []
    found = {ColumnKey(r.benchmark, r.setting, r.metric) for r in records}
    pooled = {r.benchmark for r in records if r.pool}
    main: list[ColumnKey] = []
    for benchmark in sorted({c.benchmark for c in found}, key=lambda b: (b not in pooled, b)):
        pairs = known.get(benchmark, Conventions()).main
        first = [ColumnKey(benchmark, *pair) for pair in pairs]
        rest = sorted(
            (c for c in found - set(first) if c.benchmark == benchmark),
            key=lambda c: natural(" ".join(c)),
        )
        # Nobody says what matters of a benchmark without main columns: it is shown whole.
        main += first or rest
        columns += first + rest if everything or wanted or not first else first
    if not wanted:
        return columns
    chosen = [c for item in wanted for c in asked(item, columns, main, known)]
    return list(dict.fromkeys(chosen))


def check_columns(wanted: Sequence[str], columns: Sequence[ColumnKey], known: Known) -> None:
    """Raises UserError for an item of `wanted` that none of `columns` answers to."""
    for item in wanted:
        if not asked(item, columns, columns, known):
            # without commas, which stand between items: every name may be asked for as it is
            names = dict.fromkeys(full_heading(c).replace(",", "") for c in columns)
            raise UserError(
                f"no column answers to {item!r}; there are: {', '.join(names) or 'none'}."
            )


def asked(
    item: str, columns: Sequence[ColumnKey], main: Collection[ColumnKey], known: Known
) -> list[ColumnKey]:
    """The columns that an item such as "k-NN", "knn k=10" or "linear" means.

    That is a column's name in papers or its full name, else a benchmark's name and any words of its
    setting and metric; a metric that is named and main columns count before others.
    """
    words = _words(item)
    if named := [c for c in columns if words == _words(short_heading(c, known))]:
        return named
    if whole := [c for c in columns if words == _words(full_heading(c))]:
        return whole
    fitting = [
        c
        for c in columns
        if words[:1] == [c.benchmark.casefold()] and set(words) <= set(_words(full_heading(c)))
    ]
    if all(words != _words(f"{c.benchmark} {c.setting}") for c in fitting):
        fitting = [c for c in fitting if set(_words(c.metric)) <= set(words[1:])] or fitting
    return [c for c in fitting if c in main] or fitting


def _words(text: str) -> list[str]:
    return text.casefold().replace(",", " ").split()


def heading(column: ColumnKey) -> str:
    """A column's name below its benchmark's."""
    return " ".join(part for part in column[1:] if part)


def full_heading(column: ColumnKey) -> str:
    """A column's name with its benchmark's."""
    return f"{column.benchmark} {heading(column)}".strip()


def short_heading(column: ColumnKey, known: Known) -> str:
    """What papers call the column; "" where nobody says it."""
    headings = known.get(column.benchmark, Conventions()).headings
    return headings.get((column.setting, column.metric), "")
