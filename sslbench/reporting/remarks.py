"""The remarks below a table, which do not belong to a cell."""

from __future__ import annotations

from collections.abc import Collection

from sslbench.reporting.measures import RULE
from sslbench.reporting.rows import FLOORS, Rows
from sslbench.reporting.section import Cell
from sslbench.reporting.sources import Part
from sslbench.result import Result

OLDER = "Some records are of an older version and do not state mean and std of the input."


def remarks_on(
    part: Part, rows: Rows, cells: Collection[Cell], several: Collection[str], older: bool
) -> tuple[str, ...]:
    """Return the remarks on a section.

    rows: all of its rows; cells: those shown; several: datasets that have another section; older:
    whether records lack mean and std.
    """
    return (
        *([RULE] if any(cell.bold for cell in cells) else []),
        *_spread(cells),
        *_unpooled(rows),
        *_not_averaged(rows),
        *_missing_floors(part.records),
        *([OLDER] if older else []),
        *_others(part, several),
    )


def _spread(cells: Collection[Cell]) -> list[str]:
    counts = {cell.n for cell in cells if cell.spread}
    if not counts:
        return []
    seeds = f"{counts.pop()} seeds" if len(counts) == 1 else "the number of seeds in brackets"
    return [f"±: sample standard deviation over {seeds}."]


def _not_averaged(rows: Rows) -> list[str]:
    if not any(key.weights for key in rows):
        return []
    return ["Weights with the same seed or unknown training are separate rows and not averaged."]


def _missing_floors(records: Collection[Result]) -> list[str]:
    """Return the remark on floors without records; "pixels" exists only for pooled features."""
    present = {r.model.method for r in records}
    expected = ("random-init", "pixels") if any(r.pool for r in records) else ("random-init",)
    missing = [f for f in expected if f not in present]
    if present <= set(FLOORS) or not missing:
        return []
    return [f"Floors not measured here: {' and '.join(missing)}."]


def _unpooled(rows: Rows) -> list[str]:
    """Return the remark on numbers to which the features column of their row does not apply."""
    names = sorted(
        {r.benchmark for k, members in rows.items() if k.pool for r in members if not r.pool}
    )
    if not names:
        return []
    return [
        f"{' and '.join(names)}: no pooled features, so all rows of a model show the same number; "
        "the features column does not apply."
    ]


def _others(part: Part, several: Collection[str]) -> list[str]:
    """Return the remark on datasets with another section."""
    names = [s.dataset for s in part.sources if s.dataset in several]
    if not names:
        return []
    subject = "This dataset has" if len(part.sources) == 1 else f"{' and '.join(names)}: there are"
    return [f"{subject} other splits or versions; their numbers are not comparable."]
