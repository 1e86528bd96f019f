"""The sentences below a table that belong to no cell."""

from __future__ import annotations

from collections.abc import Collection

from sslbench.reporting.measures import RULE
from sslbench.reporting.rows import FLOORS, Rows
from sslbench.reporting.section import Cell
from sslbench.reporting.sources import Part
from sslbench.result import Result

OLDER = "Some records are of an older version and do not say mean and std of the input."


def remarks_on(
    part: Part, rows: Rows, cells: Collection[Cell], several: Collection[str], older: bool
) -> tuple[str, ...]:
    """The remarks on a section.

    rows: all of it; cells: those shown; several: datasets that have another section; older: whether
    records say no mean and std.
    """
    return (
        *([RULE] if any(cell.bold for cell in cells) else []),
        *_spread(cells),
        *_unpooled(rows),
        *_apart(rows),
        *_missing_floors(part.records),
        *([OLDER] if older else []),
        *_others(part, several),
    )


def _spread(cells: Collection[Cell]) -> list[str]:
    counts = {cell.n for cell in cells if cell.spread}
    if not counts:
        return []
    seeds = f"{counts.pop()} seeds" if len(counts) == 1 else "as many seeds as brackets say"
    return [f"±: sample standard deviation over {seeds}."]


def _apart(rows: Rows) -> list[str]:
    if not any(key.weights for key in rows):
        return []
    return [
        "Weights of one seed, or of unknown training, have rows of their own and are not averaged."
    ]


def _missing_floors(records: Collection[Result]) -> list[str]:
    """The remark on floors nobody measured; the pixels only have one of pooled features."""
    present = {r.model.method for r in records}
    wanted = ("random-init", "pixels") if any(r.pool for r in records) else ("random-init",)
    missing = [f for f in wanted if f not in present]
    if present <= set(FLOORS) or not missing:
        return []
    return [f"No number without its floor: {' and '.join(missing)} not measured here."]


def _unpooled(rows: Rows) -> list[str]:
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


def _others(part: Part, several: Collection[str]) -> list[str]:
    """The remark on datasets with another section."""
    names = [s.dataset for s in part.sources if s.dataset in several]
    if not names:
        return []
    what = "This dataset has" if len(part.sources) == 1 else f"{' and '.join(names)}: there are"
    return [f"{what} other splits or versions; their numbers do not compare."]
