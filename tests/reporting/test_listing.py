"""A listing in its three formats."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest

from sslbench.errors import UserError
from sslbench.reporting.listing import Listing, listing_sheet, listing_to_csv
from sslbench.reporting.rendering import LISTINGS
from sslbench.reporting.views import View

HEAD = ("method", "epochs", "ours", "published", "difference", "source")
ROWS = (
    ("a_b | 50%", 800.0, 74.666, 75.22, -0.554, "arXiv:1 & 2"),
    ("c", "–", "–", 0.0856, 1.0, "AP^b"),
)
LISTING = Listing("Ours & theirs", HEAD, ROWS, ("a remark_",), {1: ("Not verified.",)})


def test_numbers_are_shown_as_their_columns_ask() -> None:
    first, second = LISTING.texts()
    assert first[1:5] == ["800", "74.7", "75.22", "-0.6"]
    assert second[1:5] == ["–", "–", "0.0856", "+1.0"]


def test_markdown_rows_have_equal_widths() -> None:
    lines = LISTINGS["md"](LISTING).splitlines()
    assert lines[0] == r"### Ours \& theirs"
    assert lines[-2:] == [r"a remark\_  ", "[1] Not verified.  "]
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4 and table[3].startswith("| c<sup>[1]</sup> |")
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(HEAD) + 1}


def test_latex_cites_sources_as_footnotes() -> None:
    text = LISTINGS["latex"](LISTING)
    assert r"\caption{Ours \& theirs.}" in text and r"\label{tab:ours-theirs}" in text
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines()] == [4, 4]
    assert r"a\_b \textbar{} 50\%" in body and r"75.22\textsuperscript{a}" in body
    assert r"$-$0.6" in body
    assert r"\textsuperscript{a}arXiv:1 \& 2." in text


def test_csv_is_exact_and_safe() -> None:
    head, *rows = csv.reader(io.StringIO(listing_to_csv(LISTING)))
    assert tuple(head) == (*HEAD, "notes")
    assert rows == [
        [*map(str, ROWS[0]), ""],
        [*map(str, ROWS[1]), "Not verified."],
    ]
    hostile = replace(LISTING, rows=(("=1+1", 1.0, 1.0, 1.0, -1.0, "@x"),))
    (row,) = list(csv.reader(io.StringIO(listing_to_csv(hostile))))[1:]
    assert row[0] == "'=1+1" and row[5] == "'@x" and row[4] == "-1.0"


def test_columns_that_say_nothing_are_left_out_or_said_once() -> None:
    rows = tuple(("a", 800.0, "–", 1.0 + n, "–", "arXiv:1") for n in range(2))
    sheet = listing_sheet(replace(LISTING, rows=rows))
    assert [h.text for h in sheet.heads] == ["method", "published"]
    assert sheet.constants == ("epochs 800", "source arXiv:1")


def test_rows_columns_and_names_are_chosen() -> None:
    view = View(columns=("published", "method"), rows=("c",), names={"method": "Method"})
    sheet = listing_sheet(replace(LISTING, view=view))
    assert [h.text for h in sheet.heads] == ["published", "Method"]
    assert [[e.text for e in row] for row in sheet.rows] == [["0.0856", "c"]]
    for wrong in ({"columns": ("x",)}, {"rows": ("x",)}):
        with pytest.raises(UserError, match="'x'"):
            listing_sheet(replace(LISTING, view=View(**wrong)))
