"""A plain table of texts and numbers, for every format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sslbench.errors import UserError, nearest
from sslbench.reporting.sheet import NUMBER, TEXT, Entry, Head, Sheet, filled, label_of, safe_label
from sslbench.reporting.spreadsheet import write
from sslbench.reporting.texts import shorten, shorten_words
from sslbench.reporting.views import View, fits

BLANK = "–"
SIGNED = "difference"
NUMBERS = ("epochs", "ours", "published", SIGNED)
CITED = ("published as", "source", "table")  # of which LaTeX makes one footnote


@dataclass(frozen=True)
class Listing:
    """Cells are texts or numbers; numbers of the column "difference" show their sign.

    notes: place of a row -> its footnotes; view: rows, columns and names that are shown.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    remarks: tuple[str, ...] = ()
    notes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    view: View = field(default_factory=View)

    def texts(self) -> list[list[str]]:
        """The rows as shown: one decimal at least, as many as a published figure has."""
        return [[_text(n, c) for n, c in zip(self.head, row, strict=True)] for row in self.rows]

    def chosen(self) -> Listing:
        """With the rows and columns of its view alone, in its order; UserError for unknown ones."""
        rows = list(range(len(self.rows)))
        if self.view.rows and self.rows:
            texts = self.texts()
            for pattern in self.view.rows:
                if not any(fits(pattern, names) for names in texts):
                    there = dict.fromkeys(names[0] for names in texts)
                    raise UserError(f"no row fits {pattern!r}; there are: {', '.join(there)}.")
            found = (at for p in self.view.rows for at in rows if fits(p, texts[at]))
            rows = list(dict.fromkeys(found))
        wanted = self.view.columns or self.head
        columns = list(dict.fromkeys(self._place(name) for name in wanted))
        return replace(
            self,
            head=tuple(self.head[at] for at in columns),
            rows=tuple(tuple(self.rows[row][at] for at in columns) for row in rows),
            notes={new: self.notes[old] for new, old in enumerate(rows) if old in self.notes},
        )

    def _place(self, name: str) -> int:
        known = [head.casefold() for head in self.head]
        if name.casefold() not in known:
            raise UserError(f"unknown column {name!r}: {nearest(name, self.head)}.")
        return known.index(name.casefold())


def _text(name: str, cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    if name == "epochs":
        return f"{cell:.6g}"
    if name == SIGNED:
        return f"{cell:+z.1f}"
    return str(round(cell, 4)) if name == "published" else f"{cell:.1f}"


def listing_sheet(listing: Listing, cite: bool = False) -> Sheet:
    """The listing as it is printed, without columns that say nothing.

    cite: what stands in the columns `CITED` becomes footnotes of the figures.
    """
    listing = listing.chosen()
    view, texts = listing.view, listing.texts()
    cited = [at for at, name in enumerate(listing.head) if cite and name in CITED]
    marked = _place_of_notes(listing.head)
    notes: list[str] = []
    rows = []
    for at, row in enumerate(texts):
        said: dict[int, list[str]] = defaultdict(list)
        said[0] += listing.notes.get(at, ())
        if cited:
            said[marked].append(f"{', '.join(row[i] for i in cited)}.")
        numbers = {place: _numbered(found, notes) for place, found in said.items()}
        shown = [
            Entry(shorten(view.renamed(t)), notes=numbers.get(i, ())) for i, t in enumerate(row)
        ]
        rows.append(tuple(shown))
    dead, constants = _dead(listing.head, texts, view)
    kept = [at for at in range(len(listing.head)) if at not in cited and at not in dead]
    heads = [Head(shorten(view.renamed(n)), NUMBER if n in NUMBERS else TEXT) for n in listing.head]
    title = listing.title
    return Sheet(
        title=title,
        heads=tuple(heads[at] for at in kept),
        rows=tuple(tuple(row[at] for at in kept) for row in rows),
        label=safe_label(view.label) or label_of(title.replace("'", "")),
        caption=filled(view.caption, {}),
        constants=constants,
        remarks=tuple(shorten_words(text) for text in (*listing.remarks, *view.notes)),
        notes=tuple(shorten_words(text) for text in notes),
    )


def _place_of_notes(head: Sequence[str]) -> int:
    return head.index("published") if "published" in head else 0


def _numbered(texts: Sequence[str], notes: list[str]) -> tuple[int, ...]:
    notes += [text for text in dict.fromkeys(texts) if text not in notes]
    return tuple(notes.index(text) + 1 for text in dict.fromkeys(texts))


def _dead(
    head: Sequence[str], texts: Sequence[Sequence[str]], view: View
) -> tuple[list[int], tuple[str, ...]]:
    """Columns of nothing but dashes, or of one text in several rows, and those texts.

    Columns that were asked for stay, as do the first and those of numbers that are compared.
    """
    dead, constants = [], []
    for at, name in enumerate(head):
        values = {row[at] for row in texts}
        if at == 0 or len(values) != 1 or view.columns:
            continue
        (only,) = values
        if only == BLANK:
            dead.append(at)
        elif len(texts) > 1 and name not in NUMBERS[1:]:
            dead.append(at)
            constants.append(f"{view.renamed(name)} {shorten(view.renamed(only))}")
    return dead, tuple(constants)


def listing_to_csv(listing: Listing) -> str:
    """For programs: unrounded numbers and footnotes, no remarks."""
    chosen = listing.chosen()
    rows = [(*row, " ".join(chosen.notes.get(at, ()))) for at, row in enumerate(chosen.rows)]
    return write([(*chosen.head, "notes"), *rows])
