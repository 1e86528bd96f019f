"""A plain table of texts and numbers, printed as Markdown, LaTeX (booktabs) or CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from sslbench.reporting.formats import escape_latex, escape_markdown, latex_table

SIGNED = "difference"


@dataclass(frozen=True)
class Listing:
    """Cells are texts or numbers; numbers of the column "difference" show their sign."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    remarks: tuple[str, ...] = ()

    def texts(self) -> list[list[str]]:
        """The rows as shown: one decimal at least, as many as a published figure has."""
        return [[_text(n, c) for n, c in zip(self.head, row, strict=True)] for row in self.rows]


def _text(name: str, cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    if name == "epochs":
        return f"{cell:.6g}"
    if name == SIGNED:
        return f"{cell:+.1f}"
    return str(round(cell, 4)) if name == "published" else f"{cell:.1f}"


def listing_to_markdown(listing: Listing) -> str:
    """GitHub-flavoured Markdown."""
    rows = [listing.head, ["---"] * len(listing.head), *listing.texts()]
    cells = [[escape_markdown(text) for text in row] for row in rows]
    lines = [f"### {escape_markdown(listing.title)}", ""]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    lines += ["", *(f"{escape_markdown(remark)}  " for remark in listing.remarks)]
    return "\n".join(lines) + "\n"


def listing_to_latex(listing: Listing) -> str:
    r"""A `table` environment to \input into a paper that uses booktabs."""
    head, *body = [[escape_latex(text) for text in row] for row in (listing.head, *listing.texts())]
    inside = [
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in body),
    ]
    remarks = map(escape_latex, listing.remarks)
    table = latex_table(escape_latex(listing.title), "l" * len(head), inside, remarks)
    return "% \\usepackage{booktabs}\n" + table


def listing_to_csv(listing: Listing) -> str:
    """For programs: unrounded numbers, no remarks."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows((listing.head, *listing.rows))
    return file.getvalue()
