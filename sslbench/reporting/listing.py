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
CITED = ("published as", "source", "table")  # columns that LaTeX prints as a footnote


@dataclass(frozen=True)
class Listing:
    """Cells are texts or numbers; numbers of the column "difference" show their sign.

    notes: index of a row -> its footnotes; view: the rows, columns and names to show.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    remarks: tuple[str, ...] = ()
    notes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    view: View = field(default_factory=View)

    def texts(self) -> list[list[str]]:
        """Return the rows as shown: at least one decimal, or as many as a published figure has."""
        return [[_text(n, c) for n, c in zip(self.head, row, strict=True)] for row in self.rows]

    def chosen(self) -> Listing:
        """Return only the rows and columns of the view, in its order; UserError if unknown."""
        rows = list(range(len(self.rows)))
        if self.view.rows and self.rows:
            texts = self.texts()
            for pattern in self.view.rows:
                if not any(fits(pattern, names) for names in texts):
                    available = dict.fromkeys(names[0] for names in texts)
                    listing = ", ".join(available)
                    raise UserError(f"no row matches {pattern!r}; there are: {listing}.")
            matches = (i for p in self.view.rows for i in rows if fits(p, texts[i]))
            rows = list(dict.fromkeys(matches))
        wanted = self.view.columns or self.head
        columns = list(dict.fromkeys(self._column_index(name) for name in wanted))
        return replace(
            self,
            head=tuple(self.head[i] for i in columns),
            rows=tuple(tuple(self.rows[row][i] for i in columns) for row in rows),
            notes={new: self.notes[old] for new, old in enumerate(rows) if old in self.notes},
        )

    def _column_index(self, name: str) -> int:
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
    """Return the listing as a sheet, without uninformative columns.

    cite: turns the columns `CITED` into footnotes of the figures.
    """
    listing = listing.chosen()
    view, texts = listing.view, listing.texts()
    cited = [i for i, name in enumerate(listing.head) if cite and name in CITED]
    figure_column = _figure_column(listing.head)
    notes: list[str] = []
    rows = []
    for index, row in enumerate(texts):
        row_notes: dict[int, list[str]] = defaultdict(list)
        row_notes[0] += listing.notes.get(index, ())
        if cited:
            row_notes[figure_column].append(f"{', '.join(row[i] for i in cited)}.")
        numbers = {column: _numbered(sentences, notes) for column, sentences in row_notes.items()}
        entries = [
            Entry(shorten(view.renamed(t)), notes=numbers.get(i, ())) for i, t in enumerate(row)
        ]
        rows.append(tuple(entries))
    hidden, constants = _uninformative(listing.head, texts, view)
    kept = [i for i in range(len(listing.head)) if i not in cited and i not in hidden]
    heads = [Head(shorten(view.renamed(n)), NUMBER if n in NUMBERS else TEXT) for n in listing.head]
    title = listing.title
    return Sheet(
        title=title,
        heads=tuple(heads[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
        label=safe_label(view.label) or label_of(title.replace("'", "")),
        caption=filled(view.caption, {}),
        constants=constants,
        remarks=tuple(shorten_words(text) for text in (*listing.remarks, *view.notes)),
        notes=tuple(shorten_words(text) for text in notes),
    )


def _figure_column(head: Sequence[str]) -> int:
    return head.index("published") if "published" in head else 0


def _numbered(texts: Sequence[str], notes: list[str]) -> tuple[int, ...]:
    notes += [text for text in dict.fromkeys(texts) if text not in notes]
    return tuple(notes.index(text) + 1 for text in dict.fromkeys(texts))


def _uninformative(
    head: Sequence[str], texts: Sequence[Sequence[str]], view: View
) -> tuple[list[int], tuple[str, ...]]:
    """Return the columns of only dashes or of one text in several rows, and these texts.

    The first column, requested columns and compared numbers are always informative.
    """
    hidden, constants = [], []
    for index, name in enumerate(head):
        values = {row[index] for row in texts}
        if index == 0 or len(values) != 1 or view.columns:
            continue
        (value,) = values
        if value == BLANK:
            hidden.append(index)
        elif len(texts) > 1 and name not in NUMBERS[1:]:
            hidden.append(index)
            constants.append(f"{view.renamed(name)} {shorten(view.renamed(value))}")
    return hidden, tuple(constants)


def listing_to_csv(listing: Listing) -> str:
    """Return CSV with unrounded numbers and footnotes, without remarks."""
    chosen = listing.chosen()
    rows = [(*row, " ".join(chosen.notes.get(i, ()))) for i, row in enumerate(chosen.rows)]
    return write([(*chosen.head, "notes"), *rows])
