"""The numbers of cells, which of them can be compared, and which are the best."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from sslbench.reporting.columns import HIGHER, ColumnKey
from sslbench.reporting.rows import FLOORS, INPUT, RowKey, is_stand_in, trained_only
from sslbench.result import Result, digest

MAX_DIGITS = 8  # decimals of a column
HUGE, NOISE = 1e9, 1e-12  # larger numbers get an exponent, smaller ones are rounding errors of 0
RULE = (
    "Bold: the best trained model of a column and all within its spread of it (the pooled standard "
    "deviation; of one seed each, the best one's 95 % interval)."
)


@dataclass(frozen=True)
class Measure:
    """The records of one cell: one value per set of weights, all of one protocol and pool.

    interval: of a single value, if its record has one. evaluations: numbers of evaluation seeds
    averaged per value. missing: why weights have no value. inputs: whether all records have mean
    and std of the input.
    """

    pool: str
    values: tuple[float, ...]
    protocol: Mapping[str, object]
    evaluations: tuple[int, ...]
    superseded: bool
    interval: tuple[float, float] | None = None
    missing: tuple[str, ...] = ()
    inputs: bool = True

    @property
    def mean(self) -> float:
        return fmean(self.values) if self.values else math.nan

    @property
    def std(self) -> float | None:
        if len(self.values) < 2:
            return None
        return stdev(self.values) if math.isfinite(self.mean) else math.nan


def measure(members: list[Result], column: ColumnKey) -> Measure | None:
    """Return one row's numbers of one column, of the newest protocol; None without records."""
    records = [r for r in members if (r.benchmark, r.setting, r.metric) == column]
    if not records:
        return None
    newest = compared_protocol(max(records, key=_age))
    current = _newest(r for r in records if digest(compared_protocol(r)) == digest(newest))
    by_weights = defaultdict(list)
    for r in current:
        if not (r.missing and math.isnan(r.value)):
            by_weights[r.model.sha256].append(r.value)
    repeats = tuple(sorted({len(v) for v in by_weights.values()}))
    means = tuple(sorted(fmean(v) for v in by_weights.values()))
    return Measure(
        current[0].pool,
        means,
        newest,
        repeats,
        # a stand-in depends only on the data, so an older protocol of it is not worth a note
        len(current) < len(records) and not is_stand_in(current[0]),
        current[0].interval if len(current) == 1 else None,
        tuple(sorted({r.missing for r in current if r.missing})),
        all(name in r.protocol for r in current for name in INPUT),
    )


def _newest(records: Iterable[Result]) -> list[Result]:
    """Return the newest record of each set of weights and evaluation seed.

    Older versions recorded less about how weights were read, so protocols of one evaluation differ.
    """
    return list({(r.model.sha256, r.seed): r for r in sorted(records, key=_age)}.values())


def _age(result: Result) -> tuple[str, str]:
    return result.date, result.protocol_hash


def compared_protocol(result: Result) -> dict[str, object]:
    """Return the protocol without the entries of the model: pool, backbone and normalisation."""
    entries = {k: v for k, v in result.protocol.items() if k not in ("pool", "backbone", *INPUT)}
    return {"version": result.version, **entries}


def same_protocol(measures: Iterable[Measure]) -> bool:
    """Return whether all numbers have the same protocol."""
    return len({digest(m.protocol) for m in measures}) <= 1


def rivals(cells: Mapping[RowKey, Measure]) -> dict[RowKey, Measure]:
    """Return trained models by row; a number shown in several rows counts once."""
    by_row = {k._replace(pool=cells[k].pool): cells[k] for k in trained_only(cells)}
    return {k: m for k, m in by_row.items() if math.isfinite(m.mean)}


def best_of(cells: Mapping[RowKey, Measure], direction: str) -> Measure | None:
    """Return the best trained model's numbers; None if they cannot be compared."""
    competing = rivals(cells)
    if not direction or len(competing) < 2 or not same_protocol(cells.values()):
        return None
    sign = 1 if direction == HIGHER else -1
    return max(competing.values(), key=lambda m: (sign * m.mean, m.std or 0.0))


def ties(m: Measure, best: Measure, digits: int) -> bool:
    """Return whether `m` equals the best within their spread; see `RULE`."""
    if not math.isfinite(m.mean):
        return False
    if printed(m.mean, digits) == printed(best.mean, digits):
        return True
    spreads = [x.std for x in (m, best) if x.std is not None]
    if spreads:
        return abs(m.mean - best.mean) <= math.sqrt(fmean(s * s for s in spreads))
    return bool(best.interval and best.interval[0] <= m.mean <= best.interval[1])


def better_floors(cells: Mapping[RowKey, Measure], direction: str) -> list[str]:
    """Return the floors that are better than every trained model."""
    sign = {"": 0, HIGHER: 1}.get(direction, -1)
    top = max((sign * m.mean for m in rivals(cells).values()), default=math.inf)
    return sorted({k.method for k in cells if k.method in FLOORS and sign * cells[k].mean > top})


def digits_of(measures: Iterable[Measure]) -> int:
    """Return the decimals of a column: 1 for percentages, 3 or more for fractions of one."""
    largest = max((abs(m.mean) for m in measures if m.values), default=math.inf)
    if not 0 < largest <= 1:
        return 3 if largest == 0 else 1
    return min(MAX_DIGITS, max(3, 2 - math.floor(math.log10(largest))))


def printed(value: float, digits: int) -> str:
    """Return a number with `digits` decimals, or 3 significant digits if too small or large."""
    size = abs(value)
    if size >= HUGE or NOISE < size < 0.5 * 10**-digits:
        return f"{value:.3g}"
    return f"{value:z.{digits}f}"
