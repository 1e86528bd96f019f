"""Sets our records beside the papers' figures: the table of `table --published`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from sslbench.checkpoints.releases import RELEASES
from sslbench.reporting.columns import (
    HIGHER,
    ColumnKey,
    Known,
    direction_of,
    full_heading,
    installed_conventions,
)
from sslbench.reporting.labels import BLANK, FILE_NAME, IDENTIFIED, USER, label_rows
from sslbench.reporting.listing import Listing
from sslbench.reporting.measures import Measure, measure
from sslbench.reporting.published import Counterpart, Figure, pretrainings, same_data
from sslbench.reporting.rows import RowKey, Rows, group_rows
from sslbench.reporting.store import latest
from sslbench.reporting.views import View
from sslbench.result import ModelCard, Result

HEAD = (
    "method", "arch", "pretraining data", "epochs", "benchmark", "features",
    "ours", "published", "difference", "published as", "source", "table",
)  # fmt: skip
# Ours / published area of the crops. Papers round 3.84 of 2 x 224 + 10 x 96 up to 4: 0.959. A local
# crop less is 0.952 of the exact area, one more 1.005 of the rounded.
AREA = (0.955, 1.001)
EPOCHS = (0.99, 1.01)
RELEASED = "released checkpoint"  # begins the setting of figures of the released files themselves
PAPERS = "papers/"  # begins the names of recipes with the papers' own settings
UNMATCHED = (
    "No record here has a published counterpart: that takes the same method, architecture, "
    "pretraining data and epochs, trained with the paper's own settings, judged on all of "
    "ImageNet's, COCO's or ADE20K's validation images."
)
NO_RECORDS = "There are no records here, so the papers' figures stand alone."
UNSTATED = (
    "A figure that states no epochs is taken to be of the longest pretraining published for its "
    "method, architecture and data, one that states no crops of its method's usual ones."
)
OLDER = "Ours is a record of an older version: it says neither its settings nor how it is known."


@dataclass(frozen=True)
class Pair:
    """One figure and what is ours of it; notes: footnotes of this very row."""

    row: RowKey
    column: ColumnKey
    name: str
    ours: Measure
    figure: Figure
    note: str
    notes: tuple[str, ...] = ()

    def cells(self) -> tuple[str | float, ...]:
        row, f, difference = self.row, self.figure, self.ours.mean - self.figure.value
        model = (f.method, row.arch, f.pretrain_data, row.epochs or BLANK)
        values = (self.ours.mean, f.value, difference)
        return (*model, self.name, self.ours.pool or BLANK, *values, f.setting, f.source, f.table)


def compare(
    records: Iterable[Result],
    figures: Collection[Figure],
    counterparts: Collection[Counterpart],
    methods: Collection[str],
    view: View,
    known: Known | None = None,
) -> Listing:
    """Our records beside the papers' figures; where none has a counterpart, the figures alone.

    methods: whose figures are shown alone; view: "everything" shows every figure of theirs, else
    those that a column of ours compares with. known: how benchmarks are shown; by default asked
    from the installed ones.
    """
    records = latest(records)
    known = installed_conventions({r.benchmark for r in records}) if known is None else known
    rows = group_rows(records)
    found = {(p.row, p.column, p.figure): p for p in _pairs(rows, figures, counterparts, known)}
    pairs = list(found.values())
    title = "Ours and the papers'" if pairs else "Published figures"
    remarks = [f"{note}." for note in dict.fromkeys(p.note for p in pairs) if note]
    if any(p.figure.effective_epochs is None for p in pairs):
        remarks.append(UNSTATED)
    if not pairs:
        remarks.append(UNMATCHED if records else NO_RECORDS)
    alone: list[Figure] = []
    if not pairs or view.everything:
        wanted = {m.casefold() for m in methods}
        paired = {p.figure for p in pairs}
        everything = [f for f in figures if f.method.casefold() in wanted and f not in paired]
        alone = [
            f for f in everything if view.everything or any(c.answers(f) for c in counterparts)
        ]
    shown = (*(p.cells() for p in pairs), *map(_alone, alone))
    notes = _notes(pairs, rows)
    for at, figure in enumerate((*(p.figure for p in pairs), *alone)):
        if figure.detail:
            detail = f"{figure.source}, {figure.table}: {figure.detail}."
            notes[at] = (*notes.get(at, ()), detail)
    return Listing(title, HEAD, shown, tuple(remarks), notes, view)


def _notes(pairs: Collection[Pair], rows: Rows) -> dict[int, tuple[str, ...]]:
    """Place of a pair -> its footnotes; which of ours it is, where several would look alike."""
    alike = Counter(_look(p) for p in pairs)
    labels = label_rows(rows).columns
    texts = {
        key._replace(pool=""): ", ".join(
            column.texts[key]
            for column in labels
            if column.field not in HEAD and column.texts[key] != BLANK
        )
        for key in rows
    }
    found: dict[int, tuple[str, ...]] = {}
    for at, p in enumerate(pairs):
        ours = texts[p.row._replace(pool="")] if alike[_look(p)] > 1 else ""
        if said := (*p.notes, *_seeds(p.ours), *([f"Ours: {ours}."] if ours else [])):
            found[at] = said
    return found


def _seeds(ours: Measure) -> list[str]:
    """The footnote of a mean, which the column does not show as one."""
    if ours.std is None:
        return []
    return [f"Ours: mean of {len(ours.values)} seeds, standard deviation {ours.std:.2g}."]


def _look(pair: Pair) -> tuple[object, ...]:
    """What tells a pair from others in print, our number left out."""
    head, values = pair.cells()[:6], (pair.figure,)
    return (*head, *values)


def _alone(f: Figure) -> tuple[str | float, ...]:
    where = f"{f.dataset.partition('-')[0].casefold()}_"  # that of imagenet_knn is said anyway
    benchmark = " ".join((f.benchmark.removeprefix(where), f.dataset, f.metric))
    model = (f.method, f.arch, f.pretrain_data, f.pretrain_epochs or BLANK)
    values = (BLANK, BLANK, f.value, BLANK)
    return (*model, benchmark, *values, f.setting, f.source, f.table)


def _pairs(
    rows: Rows, figures: Collection[Figure], counterparts: Collection[Counterpart], known: Known
) -> Iterator[Pair]:
    pretrained = pretrainings(figures)
    for row, members in rows.items():
        if not all(papers_own(r.model) for r in members):
            continue
        of_model = [f for f in figures if same_model(row, f, pretrained.get(f))]
        notes = tuple(dict.fromkeys(note for r in members for note in _doubts(r.model)))
        for counterpart in counterparts if of_model else ():
            answered = [f for f in of_model if counterpart.answers(f)]
            taken = [r for r in members if counterpart.takes(r) and not r.missing]
            if not answered or not taken or (chosen := _best(taken, known)) is None:
                continue
            column, ours = chosen
            # Numbers without a pool stand in every row of a model: they are one number here.
            where = row._replace(pool=ours.pool)
            name = full_heading(column)
            for figure in answered:
                yield Pair(where, column, name, ours, figure, counterpart.note, notes)


def papers_own(card: ModelCard) -> bool:
    """Whether a run has a paper's settings; of weights that are no run of ours, nothing is known.

    A run of other settings is not what the paper's figure is of.
    """
    if not card.recipe_digest:
        return True
    return card.recipe.startswith(PAPERS) and not card.settings


def _doubts(card: ModelCard) -> list[str]:
    if card.identified in (FILE_NAME, USER):
        return [IDENTIFIED[card.identified]]
    return [] if card.identified else [OLDER]


def _best(members: list[Result], known: Known) -> tuple[ColumnKey, Measure] | None:
    """The setting with the best mean, as the papers choose.

    None where there are several and nobody says whether more is better.
    """
    columns = sorted({ColumnKey(r.benchmark, r.setting, r.metric) for r in members})
    measured = [(c, m) for c in columns if (m := measure(members, c)) and m.values]
    directions = {direction_of(c, known) for c, _ in measured}
    if len(measured) < 2:
        return measured[0] if measured else None
    if len(directions) > 1 or "" in directions:
        return None
    sign = 1 if HIGHER in directions else -1
    return max(measured, key=lambda pair: sign * pair[1].mean)


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
