"""Compares our records with the papers' figures: the table of `table --published`."""

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
# Tolerance of our crop area / the published one. Papers round 3.84 for 2 x 224 + 10 x 96 to 4:
# 0.959. With one local crop less it is 0.952 of the exact area, with one more 1.005 of the rounded.
AREA = (0.955, 1.001)
EPOCHS = (0.99, 1.01)
RELEASED = "released checkpoint"  # prefix of the setting of figures for released files
PAPERS = "papers/"  # prefix of recipes with the papers' own settings
UNMATCHED = (
    "No record here has a published counterpart: that takes the same method, architecture, "
    "pretraining data and epochs, trained with the paper's own settings, evaluated on all of "
    "ImageNet's, COCO's or ADE20K's validation images, or of a transfer set's test images."
)
NO_RECORDS = "There are no records here, so only the papers' figures are shown."
UNSTATED = (
    "A figure without epochs is assumed to be of the longest pretraining published for its method, "
    "architecture and data, one without crops to use its method's usual crops."
)
OLDER = "Our record is of an older version without its settings and the source of its identity."


@dataclass(frozen=True)
class Pair:
    """One figure and our number for it; notes: footnotes of this row."""

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
    """Return our records beside the papers' figures, or only the figures if no record has one.

    methods: methods whose figures are shown without a record of ours; view: "everything" shows all
    of these figures, otherwise those comparable to one of our columns; "published" shows all
    figures of these tables and no others. known: conventions of the benchmarks; by default those of
    the installed ones.
    """
    records = latest(records)
    known = installed_conventions({r.benchmark for r in records}) if known is None else known
    rows = group_rows(records)
    unique = {(p.row, p.column, p.figure): p for p in _pairs(rows, figures, counterparts, known)}
    pairs = [p for p in unique.values() if not view.published or place(p.figure) in view.published]
    title = "Ours and the papers'" if pairs else "Published figures"
    remarks = [f"{note}." for note in dict.fromkeys(p.note for p in pairs) if note]
    if any(p.figure.effective_epochs is None for p in pairs):
        remarks.append(UNSTATED)
    if not pairs:
        remarks.append(UNMATCHED if records else NO_RECORDS)
    paired = {p.figure for p in pairs}
    unpaired = [f for f in figures if place(f) in view.published and f not in paired]
    if not view.published and (not pairs or view.everything):
        wanted = {m.casefold() for m in methods}
        candidates = [f for f in figures if f.method.casefold() in wanted and f not in paired]
        unpaired = [
            f for f in candidates if view.everything or any(c.answers(f) for c in counterparts)
        ]
    cells = (*(p.cells() for p in pairs), *map(_figure_cells, unpaired))
    notes = _notes(pairs, rows)
    for index, figure in enumerate((*(p.figure for p in pairs), *unpaired)):
        if figure.detail:
            detail = f"{figure.source}, {figure.table}: {figure.detail}."
            notes[index] = (*notes.get(index, ()), detail)
    return Listing(title, HEAD, cells, tuple(remarks), notes, view)


def place(figure: Figure) -> str:
    """Return where a figure is printed, as `View.published` names it."""
    return f"{figure.source}, {figure.table}"


def _notes(pairs: Collection[Pair], rows: Rows) -> dict[int, tuple[str, ...]]:
    """Return index of a pair -> its footnotes; one names our row if pairs would look the same."""
    appearances = Counter(_appearance(p) for p in pairs)
    labels = label_rows(rows).columns
    texts = {
        key._replace(pool=""): ", ".join(
            column.texts[key]
            for column in labels
            if column.field not in HEAD and column.texts[key] != BLANK
        )
        for key in rows
    }
    notes: dict[int, tuple[str, ...]] = {}
    for index, p in enumerate(pairs):
        ours = texts[p.row._replace(pool="")] if appearances[_appearance(p)] > 1 else ""
        if sentences := (*p.notes, *_seeds_note(p.ours), *([f"Ours: {ours}."] if ours else [])):
            notes[index] = sentences
    return notes


def _seeds_note(ours: Measure) -> list[str]:
    """Return the footnote that our number is a mean over seeds, if it is."""
    if ours.std is None:
        return []
    return [f"Ours: mean of {len(ours.values)} seeds, standard deviation {ours.std:.2g}."]


def _appearance(pair: Pair) -> tuple[object, ...]:
    """Return what distinguishes a pair from others in print, without our number."""
    model, figure = pair.cells()[:6], (pair.figure,)
    return (*model, *figure)


def _figure_cells(f: Figure) -> tuple[str | float, ...]:
    prefix = f"{f.dataset.partition('-')[0].casefold()}_"  # of imagenet_knn; the dataset follows
    benchmark = " ".join((f.benchmark.removeprefix(prefix), f.dataset, f.metric))
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
        notes = tuple(dict.fromkeys(note for r in members for note in _identity_notes(r.model)))
        for counterpart in counterparts if of_model else ():
            published = [f for f in of_model if counterpart.answers(f)]
            records = [r for r in members if counterpart.takes(r) and not r.missing]
            if not published or not records or (best := _best(records, known)) is None:
                continue
            column, ours = best
            # numbers without a pool are in every row of a model, but are one number here
            pair_row = row._replace(pool=ours.pool)
            name = full_heading(column)
            for figure in published:
                yield Pair(pair_row, column, name, ours, figure, counterpart.note, notes)


def papers_own(card: ModelCard) -> bool:
    """Return whether weights may have a paper's settings, as its figures require.

    True for runs of an unchanged recipe of the papers and for weights of unknown settings.
    """
    if not card.recipe_digest:
        return True
    return card.recipe.startswith(PAPERS) and not card.settings


def _identity_notes(card: ModelCard) -> list[str]:
    if card.identified in (FILE_NAME, USER):
        return [IDENTIFIED[card.identified]]
    return [] if card.identified else [OLDER]


def _best(members: list[Result], known: Known) -> tuple[ColumnKey, Measure] | None:
    """Return the setting with the best mean, as in the papers.

    None if there are several and it is not defined whether higher is better.
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
    """Return whether a row and a figure are of the same pretraining; False if that is unknown.

    pretrained: epochs and area of the crops of the figure's model, as in `pretrainings`.
    """
    if (row.method.casefold(), row.arch) != (figure.method.casefold(), figure.arch):
        return False
    if not same_data(row.pretrain_data, figure.pretrain_data):
        return False
    if not row.epochs:  # a released file without known epochs matches figures of that file
        return row.recipe in {r.name for r in RELEASES} and figure.setting.startswith(RELEASED)
    if pretrained is None:
        return False
    epochs, area = pretrained
    ours = row.effective_epochs / row.epochs
    return _within(EPOCHS, row.epochs / epochs) and _within(AREA, ours / area)


def _within(limits: tuple[float, float], ratio: float) -> bool:
    return limits[0] <= ratio <= limits[1]
