"""The papers' figures, and the records that they can be compared with.

Both are tables of `results/`: published.csv has one row per figure and source, counterparts.csv one
row per column of ours. Figures of arXiv:2111.07832 are those of its third version.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from sslbench.result import Result

NUMBERS = {"pretrain_epochs", "effective_epochs", "value", "images"}
ALTERNATIVES = " | "
CROPS = r"\bcrops ((?:\+?\d+x\d+)+)"  # in a figure's setting: "crops 2x224+10x96"
DATASETS = {  # other names of the datasets that the tables call IN-1K, ImageNet-1K and IN-22K
    "imagenet": "in1k",
    "imagenet1k": "in1k",
    "imagenet2012": "in1k",
    "ilsvrc2012": "in1k",
    "ilsvrc2012img": "in1k",  # the archives' ILSVRC2012_img_train
    "ilsvrc2012imgtrain": "in1k",
    "clsloc": "in1k",  # ILSVRC/Data/CLS-LOC
    "imagenet22k": "in22k",
    "imagenet21k": "in22k",
    "in21k": "in22k",
}

Row = TypeVar("Row", "Figure", "Counterpart")


@dataclass(frozen=True)
class Figure:
    """A published number in the unit of the metric, as printed in `table` of `source`.

    source: an arXiv id or a repository at a commit; epochs are None if the source states none,
    unless `detail` names another source for them.
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
    """A column of ours and the published column that it is compared with.

    setting, config, recipe, pool: shell patterns for the record's setting, its protocol's config,
    its model's recipe and its features; "" matches everything. If several settings match, the best
    one is used. published_settings, recipe: alternatives separated by " | "; a recipe after "!"
    must match none. dataset, images: the evaluation data and their exact number. note: remaining
    differences.
    """

    benchmark: str
    setting: str
    metric: str
    config: str
    recipe: str
    pool: str
    published_benchmark: str
    published_settings: str
    published_metric: str
    dataset: str
    images: float
    note: str

    def answers(self, figure: Figure) -> bool:
        """Return whether `figure` is of the published column."""
        column = (figure.benchmark, figure.metric, figure.dataset)
        settings = self.published_settings.split(ALTERNATIVES)
        published_column = (self.published_benchmark, self.published_metric, self.dataset)
        return column == published_column and figure.setting in settings

    def takes(self, record: Result) -> bool:
        """Return whether `record` is of our column and of the published column's images."""
        config = str(record.protocol.get("config", ""))
        return (
            (record.benchmark, record.metric) == (self.benchmark, self.metric)
            and fnmatchcase(record.setting, self.setting)
            and (not self.config or fnmatchcase(config, self.config))
            and (not self.pool or fnmatchcase(record.pool, self.pool))
            and (not self.recipe or self._recipe_matches(record.model.recipe))
            and same_data(record.dataset, self.dataset)
            and record.n == self.images
        )

    def _recipe_matches(self, recipe: str) -> bool:
        """Return whether `recipe` is accepted; an unknown recipe ("") never is."""
        patterns = self.recipe.removeprefix("!").split(ALTERNATIVES)
        matches = any(fnmatchcase(recipe, pattern) for pattern in patterns)
        return bool(recipe) and matches != self.recipe.startswith("!")


def same_data(ours: str, published: str) -> bool:
    """Return whether two names mean the same dataset.

    The name of a path is its last folder, or the one above if that is "train". The prefix of
    torchvision's sets and options after "?" do not count.
    """
    first, second = (_dataset(Path(text)) for text in (ours, published))
    return first == second


def _dataset(path: Path) -> str:
    folder = path.parent if path.name.casefold() == "train" else path
    base = re.sub(r"\?[a-z]+=[a-z]+", "", folder.name.removeprefix("torchvision:"))
    name = re.sub("[^a-z0-9]", "", base.casefold())
    return DATASETS.get(name, name)


def read_figures(path: Path | None = None) -> list[Figure]:
    """Return all published figures, in the order of the file."""
    return _read(Figure, path or files("sslbench.results") / "published.csv")


def read_counterparts(path: Path | None = None) -> list[Counterpart]:
    """Return all columns of ours that have a published counterpart."""
    return _read(Counterpart, path or files("sslbench.results") / "counterparts.csv")


def _read(kind: type[Row], file: Path | Traversable) -> list[Row]:
    names = {f.name for f in fields(kind)}
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return [kind(**{name: _value(name, row[name]) for name in names}) for row in rows]


def _value(name: str, text: str) -> Any:
    if name not in NUMBERS:
        return text
    return float(text) if text else None


def pretrainings(figures: Collection[Figure]) -> dict[Figure, tuple[float, float]]:
    """Return figure -> epochs of its model, and area of an image's crops in units of 224 x 224 px.

    Epochs that are not stated are the longest published for the method, architecture and data. The
    area is that of the crops in the setting, else effective epochs / epochs of the method's
    figures. Figures for which either is unknown are left out.
    """
    longest, method_areas = longest_epochs(figures), defaultdict(set)
    for f in figures:
        if f.pretrain_epochs and f.effective_epochs:
            method_areas[f.method].add(f.effective_epochs / f.pretrain_epochs)
    result = {}
    for f in figures:
        crops = re.search(CROPS, f.setting)
        areas = {crop_area(crops[1])} if crops else method_areas[f.method]
        if len(areas) != 1:
            continue
        (area,) = areas
        epochs = f.pretrain_epochs or (f.effective_epochs or 0.0) / area
        if epochs := epochs or longest.get((f.method, f.arch, f.pretrain_data), 0.0):
            result[f] = (epochs, area)
    return result


def crop_area(crops: str) -> float:
    """Return the area of crops such as "2x224+10x96" in units of 224 x 224 px."""
    sizes = [part.split("x") for part in crops.split("+")]
    return sum(int(count) * (int(size) / 224) ** 2 for count, size in sizes)


def longest_epochs(figures: Iterable[Figure]) -> dict[tuple[str, str, str], float]:
    """Return (method, arch, data) -> epochs of the longest pretraining published for it."""
    longest: dict[tuple[str, str, str], float] = {}
    for f in figures:
        key = (f.method, f.arch, f.pretrain_data)
        longest[key] = max(longest.get(key, 0.0), f.pretrain_epochs or 0.0)
    return {key: epochs for key, epochs in longest.items() if epochs}
