"""Assigns datasets to the sections of a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import NamedTuple

from sslbench.reporting.texts import data_name
from sslbench.result import Result


class _Key(NamedTuple):
    """Identifies a dataset by content and split; path and name may differ between machines."""

    split: str
    fingerprint: str


@dataclass(frozen=True)
class Source:
    """A dataset of a section and the benchmarks that were run on it, sorted."""

    dataset: str
    fingerprint: str
    benchmarks: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """The records of one section; the dataset of pooled features is its first source."""

    split: str
    sources: tuple[Source, ...]
    records: tuple[Result, ...]

    def of(self, benchmarks: Set[str]) -> Part:
        """Return the sources and records of `benchmarks`."""
        sources = tuple(s for s in self.sources if not benchmarks.isdisjoint(s.benchmarks))
        return Part(
            self.split, sources, tuple(r for r in self.records if r.benchmark in benchmarks)
        )


def partition(records: Iterable[Result]) -> list[Part]:
    """Divide records by split and content, with datasets that complement each other as one part.

    Datasets of a split complement each other if no two share a name, a benchmark or the use of
    pooled features, e.g. the images, scenes and label maps of one suite. Those that do share one
    get separate parts, because the others could belong to either.
    """
    groups: dict[_Key, list[Result]] = defaultdict(list)
    for r in records:
        groups[_Key(r.split, r.dataset_fingerprint)].append(r)
    claims = {key: _claims(members) for key, members in groups.items()}
    claimed = Counter((key.split, claim) for key in groups for claim in claims[key])
    part_keys: dict[object, list[_Key]] = defaultdict(list)
    for key in groups:
        conflict = any(claimed[key.split, claim] > 1 for claim in claims[key])
        part_keys[key if conflict else key.split].append(key)
    parts = [_part({key: groups[key] for key in keys}) for keys in part_keys.values()]
    return sorted(parts, key=lambda p: (p.sources[0].dataset, p.split, p.sources[0].fingerprint))


def dataset_name(members: Iterable[Result]) -> str:
    """Return the dataset's name in the newest of its records; of a path, the last folder."""
    return data_name(max((r.date, r.dataset) for r in members)[1])


def _claims(members: Iterable[Result]) -> set[tuple[str, str]]:
    """Return what no other dataset of the same section may share."""
    members = list(members)
    pooled = {("features", "pooled") for r in members if r.pool}
    named = {("dataset", dataset_name(members))}
    return named | pooled | {("benchmark", r.benchmark) for r in members}


def _part(groups: dict[_Key, list[Result]]) -> Part:
    benchmarks = {key: tuple(sorted({r.benchmark for r in groups[key]})) for key in groups}
    keys = sorted(groups, key=lambda key: (not any(r.pool for r in groups[key]), benchmarks[key]))
    sources = tuple(
        Source(dataset_name(groups[key]), key.fingerprint, benchmarks[key]) for key in keys
    )
    return Part(keys[0].split, sources, tuple(r for key in keys for r in groups[key]))
