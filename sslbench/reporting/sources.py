"""Which datasets share one section of a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import NamedTuple

from sslbench.reporting.texts import data_name
from sslbench.result import Result


class _Key(NamedTuple):
    """What a dataset is: content and split; its path and name may differ between machines."""

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
    """The records of one section; the dataset of pooled features is the first of its sources."""

    split: str
    sources: tuple[Source, ...]
    records: tuple[Result, ...]

    def of(self, benchmarks: Set[str]) -> Part:
        """What of it `benchmarks` were run on."""
        sources = tuple(s for s in self.sources if not benchmarks.isdisjoint(s.benchmarks))
        return Part(
            self.split, sources, tuple(r for r in self.records if r.benchmark in benchmarks)
        )


def partition(records: Iterable[Result]) -> list[Part]:
    """Records by split and content, where datasets that complete each other are one.

    Those are the datasets of a split that share no name, no benchmark and no use of pooled features
    with another, e.g. the images, scenes and label maps of one suite. Rivals stay alone: which of
    them the others would belong to nobody can tell.
    """
    groups: dict[_Key, list[Result]] = defaultdict(list)
    for r in records:
        groups[_Key(r.split, r.dataset_fingerprint)].append(r)
    claims = {key: _claims(members) for key, members in groups.items()}
    claimed = Counter((key.split, claim) for key in groups for claim in claims[key])
    together: dict[object, list[_Key]] = defaultdict(list)
    for key in groups:
        rivals = any(claimed[key.split, claim] > 1 for claim in claims[key])
        together[key if rivals else key.split].append(key)
    parts = [_part({key: groups[key] for key in keys}) for keys in together.values()]
    return sorted(parts, key=lambda p: (p.sources[0].dataset, p.split, p.sources[0].fingerprint))


def dataset_name(members: Iterable[Result]) -> str:
    """What records of one content call it: the newest's name, of a path its last folder."""
    return data_name(max((r.date, r.dataset) for r in members)[1])


def _claims(members: Iterable[Result]) -> set[tuple[str, str]]:
    """What a dataset shares with no other of its section."""
    members = list(members)
    pooled = {("features", "pooled") for r in members if r.pool}
    named = {("dataset", dataset_name(members))}
    return named | pooled | {("benchmark", r.benchmark) for r in members}


def _part(groups: dict[_Key, list[Result]]) -> Part:
    ran = {key: tuple(sorted({r.benchmark for r in groups[key]})) for key in groups}
    keys = sorted(groups, key=lambda key: (not any(r.pool for r in groups[key]), ran[key]))
    sources = tuple(Source(dataset_name(groups[key]), key.fingerprint, ran[key]) for key in keys)
    return Part(keys[0].split, sources, tuple(r for key in keys for r in groups[key]))
