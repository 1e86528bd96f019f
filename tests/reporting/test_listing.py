"""A listing in its three formats."""

from __future__ import annotations

import csv
import io
import re

from sslbench.reporting.listing import (
    Listing,
    listing_to_csv,
    listing_to_latex,
    listing_to_markdown,
)

HEAD = ("method", "epochs", "ours", "published", "difference", "source")
ROWS = (
    ("a_b | 50%", 800.0, 74.666, 75.22, -0.554, "arXiv:1 & 2"),
    ("c", "–", "–", 0.0856, 1.0, "AP^b"),
)
LISTING = Listing("Ours & theirs", HEAD, ROWS, ("a remark_",))


def test_numbers_are_shown_as_their_columns_ask() -> None:
    first, second = LISTING.texts()
    assert first[1:5] == ["800", "74.7", "75.22", "-0.6"]
    assert second[1:5] == ["–", "–", "0.0856", "+1.0"]


def test_markdown_rows_have_equal_widths() -> None:
    lines = listing_to_markdown(LISTING).splitlines()
    assert lines[0] == "### Ours & theirs" and lines[-1] == "a remark_  "
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(HEAD) + 1}


def test_latex_is_ascii_and_well_formed() -> None:
    text = listing_to_latex(LISTING)
    assert text.isascii() and r"\caption{Ours \& theirs}" in text and r"a remark\_\par" in text
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines()] == [5, 5]
    assert r"a\_b \textbar{} 50\%" in body and r"AP$^{b}$" in body


def test_csv_is_exact() -> None:
    head, *rows = csv.reader(io.StringIO(listing_to_csv(LISTING)))
    assert tuple(head) == HEAD
    assert rows == [[str(cell) for cell in row] for row in ROWS]
