"""The rows of a table: their keys, records and order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sslbench.reporting.texts import data_name
from sslbench.result import ModelCard, Result

# Baselines that a trained model has to beat. The last one is not a model: it is the score of a
# segmentation that labels every pixel the same, and exists only for benchmarks that record it.
FLOORS = ("random-init", "pixels", "all-background")
UNKNOWN = "unknown"  # the method of weights whose method is not known
CONFIG = "config"  # entry of a protocol: the name of a benchmark's config
INPUT = ("mean", "std")  # entries of a protocol that belong to the model, hence part of a row


class RowKey(NamedTuple):
    """Identifies one row.

    pretrain_data: its name if records know its content, else as recorded. label: the user's name.
    normalisation: mean and std of the input, "" if not recorded. weights: "" unless runs are not
    seeds of one training. config: of a benchmark, "" unless the model has figures by several.
    """

    method: str
    arch: str
    pretrain_data: str
    recipe: str
    epochs: float
    effective_epochs: float
    tokens: float
    steps: int
    pool: str
    label: str = ""
    recipe_digest: str = ""
    normalisation: str = ""
    weights: str = ""
    config: str = ""


Rows = Mapping[RowKey, list[Result]]


def group_rows(records: Collection[Result]) -> dict[RowKey, list[Result]]:
    """Return the records of each row, in the order of the table: floors, then methods by name.

    A training that started from the weights of another row comes right after that row.
    Records without a pool belong to every row of a model that has pools, else to a separate row.
    Figures by several configs of one benchmark have a row each.
    """
    inputs, labels, data = _inputs(records), _labels(records), _data_names(records)
    groups = defaultdict(list)
    for r in records:
        normalisation = inputs[r.model.sha256, normalisation_of(r)]
        label = labels[r.model.sha256, normalisation_of(r)]
        name = data.get(r.model.data_fingerprint, r.model.pretrain_data)
        groups[_key(r.model, name, r.pool, label, normalisation)].append(r)
    for key in [k for k in groups if not k.pool]:
        if pooled := [k for k in groups if k.pool and k._replace(pool="") == key]:
            shared = groups.pop(key)
            for row in pooled:
                groups[row] += shared
    rows = defaultdict(list)
    for key, members in groups.items():
        separate = not repetitions(members)
        several = _configs(members)
        for r in members:
            row = key._replace(weights=r.model.sha256) if separate else key
            config = str(r.protocol.get(CONFIG, "")) if _column(r) in several else ""
            rows[row._replace(config=config)].append(r)
    chains = _chains(rows)
    return {key: rows[key] for key in sorted(rows, key=lambda k: (_floor_rank(k), chains[k]))}


def _configs(members: Iterable[Result]) -> set[tuple[str, str, str]]:
    """Return the columns in which `members` have figures by several configs."""
    configs = defaultdict(set)
    for r in members:
        configs[_column(r)].add(r.protocol.get(CONFIG, ""))
    return {column for column, names in configs.items() if len(names) > 1}


def _column(r: Result) -> tuple[str, str, str]:
    return r.benchmark, r.setting, r.metric


def _chains(rows: Rows) -> dict[RowKey, tuple[RowKey, ...]]:
    """Return row -> itself, after the rows of the weights that it started from, oldest first."""
    holders = {(r.model.sha256, key.pool): key for key, rs in rows.items() for r in rs}
    chains: dict[RowKey, tuple[RowKey, ...]] = {}
    for key in rows:
        chain = [key]
        while (before := _row_before(rows[chain[0]], holders)) and before not in chain:
            chain.insert(0, before)
        chains[key] = tuple(chain)
    return chains


def _row_before(
    members: Iterable[Result], holders: Mapping[tuple[str, str], RowKey]
) -> RowKey | None:
    """Return the row of the weights that `members` started from; None if no row has them."""
    for r in members:
        start = r.model.started_from.get("sha256", "")
        if (key := holders.get((start, r.pool))) is not None:
            return key
    return None


def _data_names(records: Iterable[Result]) -> dict[str, str]:
    """Return fingerprint of pretraining data -> its name in the newest record."""
    known = (r for r in records if r.model.data_fingerprint)
    in_order = sorted(known, key=lambda r: (r.date, r.model.pretrain_data))
    return {r.model.data_fingerprint: data_name(r.model.pretrain_data) for r in in_order}


def _key(m: ModelCard, data: str, pool: str, label: str, normalisation: str) -> RowKey:
    run = (m.method, m.arch, data, m.recipe, m.epochs, m.effective_epochs, m.tokens, m.steps)
    return RowKey(*run, pool, label, m.recipe_digest, normalisation)


def repetitions(members: Iterable[Result]) -> bool:
    """Return whether all weights of `members` are seeds of one training and may be averaged.

    Two weights with the same seed are not, nor are weights with an unknown seed or training:
    averaging could hide a difference.
    """
    cards = {(r.model.seed, r.model.sha256): r.model for r in members}
    seeds = {seed for seed, _ in cards}
    if len(cards) == 1:
        return True
    known = all(m.recipe or m.recipe_digest or m.method in FLOORS for m in cards.values())
    return len(seeds) == len(cards) and None not in seeds and known


def is_stand_in(result: Result) -> bool:
    """Return whether the number depends only on the data: a floor without a model."""
    return result.model.method in FLOORS and not result.model.source


def normalisation_of(result: Result) -> str:
    """Return mean and std of the model's input as text, "" if the record does not state them."""
    if is_stand_in(result) or not all(name in result.protocol for name in INPUT):
        return ""
    return ", ".join(f"{name} {_numbers(result.protocol[name])}" for name in INPUT)


def _numbers(values: object) -> str:
    channels = values if isinstance(values, list | tuple) else [values]
    texts = [f"{v:.3g}" if isinstance(v, int | float) else str(v) for v in channels]
    return "/".join(texts if len(set(texts)) > 1 else texts[:1])


def _inputs(records: Iterable[Result]) -> dict[tuple[str, str], str]:
    """Return (weights, normalisation as recorded) -> normalisation of the row.

    A record without normalisation gets that of other records of its weights, if they agree.
    """
    known = defaultdict(set)
    for r in records:
        known[r.model.sha256].add(normalisation_of(r))
    result: dict[tuple[str, str], str] = {}
    for sha256, texts in known.items():
        stated = texts - {""}
        result |= {(sha256, t): t or (min(stated) if len(stated) == 1 else "") for t in texts}
    return result


def _labels(records: Iterable[Result]) -> dict[tuple[str, str], str]:
    """Return (weights, normalisation) -> the label of its newest record."""
    newest: dict[tuple[str, str], tuple[str, str]] = {}
    for r in records:
        key = (r.model.sha256, normalisation_of(r))
        newest[key] = max(newest.get(key, ("", "")), (r.date, r.model.label))
    return {key: label for key, (_, label) in newest.items()}


def _floor_rank(key: RowKey) -> int:
    return FLOORS.index(key.method) if key.method in FLOORS else len(FLOORS)


def trained_only(keys: Iterable[RowKey]) -> list[RowKey]:
    """Return `keys` without the floors."""
    return [k for k in keys if k.method not in FLOORS]
