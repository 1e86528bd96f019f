"""What a table's rows stand for, and in which order they come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sslbench.reporting.texts import data_name
from sslbench.result import ModelCard, Result

# What a trained model has to beat. The last is no model: it stands for what a segmentation is worth
# that calls every pixel the same, and only the benchmarks that record it have it.
FLOORS = ("random-init", "pixels", "all-background")
UNKNOWN = "unknown"  # the method of weights of which nobody knows it
INPUT = ("mean", "std")  # of a protocol: what the model was trained to read, hence part of a row


class RowKey(NamedTuple):
    """What one row stands for.

    pretrain_data: by name where records know its content, else as written. label: the user's name.
    normalisation: mean and std of the input, "" where records do not say them. `weights` is empty
    unless runs are no seeds of one training.
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


Rows = Mapping[RowKey, list[Result]]


def group_rows(records: Collection[Result]) -> dict[RowKey, list[Result]]:
    """Records by row, in the order of the table: floors, then methods by name.

    Records without a pool stand in every row of a model that has pools, else in a row of their own.
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
        apart = not repetitions(members)
        for r in members:
            rows[key._replace(weights=r.model.sha256) if apart else key].append(r)
    return {key: rows[key] for key in sorted(rows, key=lambda k: (_floor_rank(k), k))}


def _data_names(records: Iterable[Result]) -> dict[str, str]:
    """Content of pretraining data -> what its newest record calls it; unknown content has none."""
    known = (r for r in records if r.model.data_fingerprint)
    in_order = sorted(known, key=lambda r: (r.date, r.model.pretrain_data))
    return {r.model.data_fingerprint: data_name(r.model.pretrain_data) for r in in_order}


def _key(m: ModelCard, data: str, pool: str, label: str, normalisation: str) -> RowKey:
    run = (m.method, m.arch, data, m.recipe, m.epochs, m.effective_epochs, m.tokens, m.steps)
    return RowKey(*run, pool, label, m.recipe_digest, normalisation)


def repetitions(members: Iterable[Result]) -> bool:
    """Whether all weights behind `members` are seeds of one training, so they may be averaged.

    Two weights of one seed are not, nor are weights whose seed or training nobody knows: averaging
    would hide a difference.
    """
    cards = {(r.model.seed, r.model.sha256): r.model for r in members}
    seeds = {seed for seed, _ in cards}
    if len(cards) == 1:
        return True
    known = all(m.recipe or m.recipe_digest or m.method in FLOORS for m in cards.values())
    return len(seeds) == len(cards) and None not in seeds and known


def is_stand_in(result: Result) -> bool:
    """Whether no model was shown anything: a floor that the data alone make."""
    return result.model.method in FLOORS and not result.model.source


def normalisation_of(result: Result) -> str:
    """Mean and std of what the model was shown, "" where the record does not say them."""
    if is_stand_in(result) or not all(name in result.protocol for name in INPUT):
        return ""
    return ", ".join(f"{name} {_numbers(result.protocol[name])}" for name in INPUT)


def _numbers(values: object) -> str:
    several = values if isinstance(values, list | tuple) else [values]
    texts = [f"{v:.3g}" if isinstance(v, int | float) else str(v) for v in several]
    return "/".join(texts if len(set(texts)) > 1 else texts[:1])


def _inputs(records: Iterable[Result]) -> dict[tuple[str, str], str]:
    """(weights, normalisation as recorded) -> that of the row.

    A record that does not say it belongs to the only one that others of its weights say.
    """
    known = defaultdict(set)
    for r in records:
        known[r.model.sha256].add(normalisation_of(r))
    found: dict[tuple[str, str], str] = {}
    for sha256, texts in known.items():
        said = texts - {""}
        found |= {(sha256, t): t or (min(said) if len(said) == 1 else "") for t in texts}
    return found


def _labels(records: Iterable[Result]) -> dict[tuple[str, str], str]:
    """(weights, normalisation) -> the name that its newest record was given."""
    newest: dict[tuple[str, str], tuple[str, str]] = {}
    for r in records:
        key = (r.model.sha256, normalisation_of(r))
        newest[key] = max(newest.get(key, ("", "")), (r.date, r.model.label))
    return {key: label for key, (_, label) in newest.items()}


def _floor_rank(key: RowKey) -> int:
    return FLOORS.index(key.method) if key.method in FLOORS else len(FLOORS)


def trained_only(keys: Iterable[RowKey]) -> list[RowKey]:
    """`keys` without the floors."""
    return [k for k in keys if k.method not in FLOORS]
