"""The papers' figures, and which of our records they may be compared with.

Both are tables of `results/`: published.csv holds one row a figure and source, counterparts.csv one
row a column of ours. Figures of arXiv:2111.07832 are those of its third version.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from sslbench.reporting.result import Result

NUMBERS = {"pretrain_epochs", "effective_epochs", "value", "images"}
ALTERNATIVES = " | "
DATASETS = {  # spellings of what the tables call IN-1K, ImageNet-1K and IN-22K
    "imagenet": "in1k",
    "imagenet1k": "in1k",
    "ilsvrc2012": "in1k",
    "imagenet22k": "in22k",
    "imagenet21k": "in22k",
    "in21k": "in22k",
}

Row = TypeVar("Row", "Figure", "Counterpart")


@dataclass(frozen=True)
class Figure:
    """A published number in the metric's own unit, as printed at `table` of `source`.

    source: an arXiv id or a repository at a commit; epochs are None where that place states none.
    """

    method: str
    arch: str
    pretrain_data: str
    pretrain_epochs: float | None
    effective_epochs: float | None
    benchmark: str
    dataset: str
    setting: str
    metric: str
    value: float
    source: str
    table: str
    detail: str


@dataclass(frozen=True)
class Counterpart:
    """A column of ours and the published one that it compares with.

    setting, config: shell patterns on the record's setting and its protocol's config, empty config
    = any; where several settings fit, the best counts. published_settings: alternatives separated
    by " | ". dataset, images: what was judged on and how many; fewer images are another dataset.
    note: what still differs.
    """

    benchmark: str
    setting: str
    metric: str
    config: str
    published_benchmark: str
    published_settings: str
    published_metric: str
    dataset: str
    images: float
    note: str

    def answers(self, figure: Figure) -> bool:
        """Whether `figure` is of the published column."""
        column = (figure.benchmark, figure.metric, figure.dataset)
        settings = self.published_settings.split(ALTERNATIVES)
        wanted = (self.published_benchmark, self.published_metric, self.dataset)
        return column == wanted and figure.setting in settings

    def takes(self, record: Result) -> bool:
        """Whether `record` is of our column and was judged on the published column's images."""
        config = str(record.protocol.get("config", ""))
        return (
            (record.benchmark, record.metric) == (self.benchmark, self.metric)
            and fnmatchcase(record.setting, self.setting)
            and (not self.config or fnmatchcase(config, self.config))
            and same_data(record.dataset, self.dataset)
            and record.n == self.images
        )


def same_data(ours: str, published: str) -> bool:
    """Whether two names mean one dataset; a path means the dataset its last folder is named for."""
    names = [re.sub("[^a-z0-9]", "", Path(text).name.casefold()) for text in (ours, published)]
    first, second = (DATASETS.get(name, name) for name in names)
    return first == second


def read_figures(path: Path | None = None) -> list[Figure]:
    """Every published figure, in the order of the file."""
    return _read(Figure, path or files("sslbench.results") / "published.csv")


def read_counterparts(path: Path | None = None) -> list[Counterpart]:
    """Every column of ours that a published one compares with."""
    return _read(Counterpart, path or files("sslbench.results") / "counterparts.csv")


def _read(kind: type[Row], file: Path | Traversable) -> list[Row]:
    names = {f.name for f in fields(kind)}
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return [kind(**{name: _value(name, row[name]) for name in names}) for row in rows]


def _value(name: str, text: str) -> Any:
    if name not in NUMBERS:
        return text
    return float(text) if text else None


def longest_epochs(figures: Iterable[Figure]) -> dict[tuple[str, str, str], float]:
    """(method, arch, data) -> the longest pretraining published with it."""
    longest: dict[tuple[str, str, str], float] = {}
    for f in figures:
        key = (f.method, f.arch, f.pretrain_data)
        longest[key] = max(longest.get(key, 0.0), f.pretrain_epochs or 0.0)
    return {key: epochs for key, epochs in longest.items() if epochs}
