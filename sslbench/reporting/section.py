"""The parts of a comparison table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sslbench.reporting.columns import ColumnKey
from sslbench.reporting.labels import BLANK
from sslbench.reporting.rows import RowKey
from sslbench.reporting.sources import Source
from sslbench.reporting.views import View


@dataclass(frozen=True)
class Header:
    """A column's name and the numbers of its footnotes.

    group: the heading above it, its benchmark; meaning: the full name for a short one.
    """

    text: str
    notes: tuple[int, ...] = ()
    group: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Cell:
    """Mean and std (None for one seed) over n seeds; if n is 0, mean is None and value a dash."""

    value: str = BLANK
    spread: str = ""
    mean: float | None = None
    std: float | None = None
    n: int = 0
    bold: bool = False
    notes: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.value} ± {self.spread} (n={self.n})" if self.spread else self.value


@dataclass(frozen=True)
class Row:
    """A row of cells; notes: footnotes of its first label."""

    key: RowKey
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Section:
    """The results of one dataset, or of several that complement each other.

    constants: texts on what all models share; notes[i] is footnote i + 1, remarks have no number.
    """

    sources: tuple[Source, ...]
    split: str
    labels: tuple[Header, ...]
    columns: tuple[tuple[ColumnKey, Header], ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    remarks: tuple[str, ...]
    constants: tuple[str, ...] = ()
    view: View = field(default_factory=View)

    def source(self, benchmark: str) -> Source:
        """Return the dataset that `benchmark` was run on."""
        return next(s for s in self.sources if benchmark in s.benchmarks)


@dataclass(frozen=True)
class Table:
    sections: tuple[Section, ...]


class Footnotes:
    """Numbers footnotes in order of appearance; equal sentences share a number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, texts: Iterable[str]) -> tuple[int, ...]:
        unique = list(dict.fromkeys(texts))
        self.texts += [t for t in unique if t not in self.texts]
        return tuple(self.texts.index(t) + 1 for t in unique)
