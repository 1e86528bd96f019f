"""Sets our records beside the papers' figures: the table of `table --published`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from sslbench.backbones.weights import RELEASES
from sslbench.reporting.layout import BLANK, ColumnKey, RowKey, check_layout, group_rows, heading
from sslbench.reporting.listing import Listing
from sslbench.reporting.published import Counterpart, Figure, pretrainings, same_data
from sslbench.reporting.result import Result
from sslbench.reporting.store import latest
from sslbench.reporting.table import Measure, measure

HEAD = (
    "method", "arch", "pretraining data", "epochs", "benchmark", "features",
    "ours", "published", "difference", "published as", "source", "table",
)  # fmt: skip
# Ours / published area of the crops. Papers round 3.84 of 2 x 224 + 10 x 96 up to 4: 0.959. A local
# crop less is 0.952 of the exact area, one more 1.005 of the rounded.
AREA = (0.955, 1.001)
EPOCHS = (0.99, 1.01)
RELEASED = "released checkpoint"  # begins the setting of figures of the released files themselves
UNMATCHED = (
    "No record here has a published counterpart: that takes the same method, architecture, "
    "pretraining data and epochs, judged on all of ImageNet's, COCO's or ADE20K's validation "
    "images."
)
UNSTATED = (
    "A figure that states no epochs is taken to be of the longest pretraining published for its "
    "method, architecture and data, one that states no crops of its method's usual ones."
)


@dataclass(frozen=True)
class Pair:
    """One figure and what is ours of it."""

    row: RowKey
    column: ColumnKey
    ours: Measure
    figure: Figure
    note: str

    def cells(self) -> tuple[str | float, ...]:
        row, f, difference = self.row, self.figure, self.ours.mean - self.figure.value
        benchmark = f"{self.column.benchmark} {heading(self.column)}"
        model = (f.method, row.arch, f.pretrain_data, row.epochs or BLANK)
        values = (self.ours.mean, f.value, difference)
        return (*model, benchmark, self.ours.pool or BLANK, *values, f.setting, f.source, f.table)


def compare(
    records: Iterable[Result],
    figures: Collection[Figure],
    counterparts: Collection[Counterpart],
    methods: Collection[str],
    layout: str,
) -> Listing:
    """Our records beside the papers' figures; where none has a counterpart, the figures alone.

    methods: whose figures are shown alone; layout: "all" shows every figure of theirs, any other
    those that a column of ours compares with. UserError for an unknown layout.
    """
    check_layout(layout)
    records = latest(records)
    found = {(p.row, p.column, p.figure): p for p in _pairs(records, figures, counterparts)}
    pairs = list(found.values())
    title = "Ours and the papers'" if pairs else "Published figures"
    remarks = [f"{note}." for note in dict.fromkeys(p.note for p in pairs) if note]
    if any(p.figure.effective_epochs is None for p in pairs):
        remarks.append(UNSTATED)
    if records and not pairs:
        remarks.append(UNMATCHED)
    alone: list[Figure] = []
    if not pairs or layout == "all":
        wanted = {m.casefold() for m in methods}
        paired = {p.figure for p in pairs}
        everything = [f for f in figures if f.method.casefold() in wanted and f not in paired]
        alone = [
            f for f in everything if layout == "all" or any(c.answers(f) for c in counterparts)
        ]
    rows = (*(p.cells() for p in pairs), *map(_alone, alone))
    remarks += _details([*(p.figure for p in pairs), *alone])
    return Listing(title, HEAD, rows, tuple(remarks))


def _details(figures: Iterable[Figure]) -> list[str]:
    """What a source says or gets wrong about its own figures."""
    said = ((f.source, f.table, f.detail) for f in figures if f.detail)
    return [f"{source}, {table}: {detail}." for source, table, detail in dict.fromkeys(said)]


def _alone(f: Figure) -> tuple[str | float, ...]:
    benchmark = " ".join(dict.fromkeys((f.benchmark, f.dataset, f.metric)))
    model = (f.method, f.arch, f.pretrain_data, f.pretrain_epochs or BLANK)
    values = (BLANK, BLANK, f.value, BLANK)
    return (*model, benchmark, *values, f.setting, f.source, f.table)


def _pairs(
    records: Collection[Result], figures: Collection[Figure], counterparts: Collection[Counterpart]
) -> Iterator[Pair]:
    pretrained = pretrainings(figures)
    for row, members in group_rows(records).items():
        known = [f for f in figures if same_model(row, f, pretrained.get(f))]
        for counterpart in counterparts if known else ():
            answered = [f for f in known if counterpart.answers(f)]
            taken = [r for r in members if counterpart.takes(r)]
            if not answered or not taken:
                continue
            column, ours = _best(taken)
            # Numbers without a pool stand in every row of a model: they are one number here.
            where = row._replace(pool=ours.pool)
            for figure in answered:
                yield Pair(where, column, ours, figure, counterpart.note)


def _best(members: list[Result]) -> tuple[ColumnKey, Measure]:
    """The setting with the best mean, as the papers choose; every metric here is better if more."""
    columns = sorted({ColumnKey(r.benchmark, r.setting, r.metric) for r in members})
    measured = [(c, m) for c in columns if (m := measure(members, c))]
    return max(measured, key=lambda pair: pair[1].mean)


def same_model(row: RowKey, figure: Figure, pretrained: tuple[float, float] | None) -> bool:
    """Whether a row of ours and a figure are of one pretraining; what is unknown is not the same.

    pretrained: epochs and area of the crops of the figure's model, as in `pretrainings`.
    """
    if (row.method.casefold(), row.arch) != (figure.method.casefold(), figure.arch):
        return False
    if not same_data(row.pretrain_data, figure.pretrain_data):
        return False
    if not row.epochs:  # nobody states those of a file, but the figure is of that very file
        return row.recipe in {r.name for r in RELEASES} and figure.setting.startswith(RELEASED)
    if pretrained is None:
        return False
    epochs, area = pretrained
    ours = row.effective_epochs / row.epochs
    return _within(EPOCHS, row.epochs / epochs) and _within(AREA, ours / area)


def _within(limits: tuple[float, float], ratio: float) -> bool:
    return limits[0] <= ratio <= limits[1]
