"""What the table's rows and columns stand for, their order and their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sslbench import plugins
from sslbench.errors import UserError, nearest
from sslbench.reporting.result import Result

# What a trained model has to beat. The last is no model: it stands for what a segmentation is worth
# that calls every pixel the same, and only the benchmarks that record it have it.
FLOORS = ("random-init", "pixels", "all-background")
LAYOUTS = ("frozen", "all")
BLANK = "–"

Pairs = Sequence[tuple[str, str]]  # (setting, metric)


class RowKey(NamedTuple):
    """What one row stands for; `weights` is empty unless a seed alone does not tell runs apart."""

    method: str
    arch: str
    pretrain_data: str
    recipe: str
    epochs: float
    effective_epochs: float
    tokens: float
    steps: int
    pool: str
    weights: str = ""


class ColumnKey(NamedTuple):
    """What one column stands for."""

    benchmark: str
    setting: str
    metric: str


def check_layout(layout: str) -> None:
    """Raises UserError for a layout that does not exist."""
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout {layout!r}: {nearest(layout, LAYOUTS)}.")


def main_columns(benchmarks: Iterable[str]) -> dict[str, Pairs]:
    """The main (setting, metric) pairs of those `benchmarks` that are installed."""
    installed = plugins.available(plugins.BENCHMARKS)
    wanted = sorted(set(benchmarks) & set(installed))
    return {name: plugins.load(plugins.BENCHMARKS, name).main for name in wanted}


def group_rows(records: Iterable[Result]) -> dict[RowKey, list[Result]]:
    """Records by row, in the order of the table: floors, then methods by name.

    Records without a pool stand in every row of a model that has pools, else in a row of their own.
    """
    groups = defaultdict(list)
    for r in records:
        m = r.model
        run = (m.method, m.arch, m.pretrain_data, m.recipe, m.epochs, m.effective_epochs)
        groups[RowKey(*run, m.tokens, m.steps, r.pool)].append(r)
    for key in [k for k in groups if not k.pool]:
        if pooled := [k for k in groups if k.pool and k._replace(pool="") == key]:
            shared = groups.pop(key)
            for row in pooled:
                groups[row] += shared
    rows = defaultdict(list)
    for key, members in groups.items():
        runs = {(r.model.seed, r.model.sha256) for r in members}
        # Two weights with one seed are no repetition over seeds: averaging would hide a difference.
        ambiguous = len({seed for seed, _ in runs}) < len(runs)
        for r in members:
            rows[key._replace(weights=r.model.sha256) if ambiguous else key].append(r)
    return {key: rows[key] for key in sorted(rows, key=lambda k: (_floor_rank(k), k))}


def _floor_rank(key: RowKey) -> int:
    return FLOORS.index(key.method) if key.method in FLOORS else len(FLOORS)


def trained_only(keys: Iterable[RowKey]) -> list[RowKey]:
    """`keys` without the floors."""
    return [k for k in keys if k.method not in FLOORS]


def choose_columns(
    records: Collection[Result], layout: str, main: Mapping[str, Pairs]
) -> list[ColumnKey]:
    """Columns by benchmark, main ones first, then in natural order ("k=5" before "k=20").

    Benchmarks of pooled features come before the others.
    """
    columns: list[ColumnKey] = []
    found = {ColumnKey(r.benchmark, r.setting, r.metric) for r in records}
    pooled = {r.benchmark for r in records if r.pool}
    for benchmark in sorted({c.benchmark for c in found}, key=lambda b: (b not in pooled, b)):
        first = [ColumnKey(benchmark, *pair) for pair in main.get(benchmark, ())]
        rest = sorted((c for c in found - set(first) if c.benchmark == benchmark), key=_natural)
        # Nobody says what matters of a benchmark without main columns: it is shown whole.
        columns += first if layout != "all" and first else first + rest
    return columns


def _natural(column: ColumnKey) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", " ".join(column))
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def heading(column: ColumnKey) -> str:
    """A column's name below its benchmark's."""
    return " ".join(part for part in (column.setting, column.metric) if part)


def label_fields(keys: list[RowKey]) -> list[str]:
    """The fields that tell the rows apart; recipe, steps and weights appear only when needed."""
    shown = {"method", "arch", "pretrain_data", "epochs", "pool"}
    if any(k.effective_epochs not in (0, k.epochs) for k in keys):
        shown.add("effective_epochs")
    if any(k.tokens for k in keys):
        shown.add("tokens")
    for extra in ("recipe", "effective_epochs", "steps", "weights"):
        if len({tuple(getattr(k, f) for f in sorted(shown)) for k in keys}) == len(keys):
            break
        shown.add(extra)
    return [f for f in RowKey._fields if f in shown]


def label_heading(field: str) -> str:
    """The name of a label column in the field's words."""
    words = {"pretrain_data": "pretraining data", "pool": "features"}
    words["tokens"] = "billion image tokens"
    return words.get(field, field.replace("_", " "))


def label(key: RowKey, field: str) -> str:
    """A row's entry in a label column; a dash where there is nothing to say."""
    value = getattr(key, field)
    text = value[:8] if field == "weights" else value if isinstance(value, str) else f"{value:.6g}"
    return BLANK if text in ("", "0") else text
