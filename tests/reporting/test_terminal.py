"""Tables on a terminal: readable at any width, nothing cut (E8)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from sslbench.reporting.columns import Conventions
from sslbench.reporting.rendering import published, table, to_text, write_tables
from sslbench.reporting.sheet import Entry, Head, Sheet
from sslbench.reporting.store import Store
from sslbench.reporting.table import build
from sslbench.reporting.terminal import sheet_to_terminal

from .records import record

METHODS = ("random-init", "데이터셋", "alpha", "a_very_long_name_of_a_method_that_somebody_chose")
SETTINGS = ("k=20", "1% logreg, best of 3 lambda", "best of 45 lr")
KNOWN = {"knn": Conventions(main=tuple((s, "top1") for s in SETTINGS))}


def results() -> list:
    return [
        record(method, 50.0 + n + seed, seed=seed, setting=setting, recipe_digest="d")
        for n, method in enumerate(METHODS)
        for setting in SETTINGS
        for seed in range(2)
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
def test_nothing_is_cut_and_no_line_is_too_long(width: int) -> None:
    shown = to_text(build(results(), "all", KNOWN), width)
    assert max(map(cell_len, shown.splitlines())) <= width
    assert "…" not in shown.replace("*…*", "")
    whole = re.sub(r"\s+", "", shown)
    for method in METHODS:
        assert method in whole
    for n in range(len(METHODS)):
        assert whole.count(f"{50.5 + n:.1f}±0.7") == len(SETTINGS)


def test_a_wide_terminal_has_one_table_and_a_narrow_one_parts() -> None:
    found = build([r for r in results() if len(r.model.method) < 20], "all", KNOWN)

    def tables(width: int) -> int:
        return len(re.findall(r"^method", to_text(found, width), re.MULTILINE))

    assert tables(200) == 1 and 1 < tables(45) <= len(SETTINGS)


def test_the_form_of_80_columns() -> None:
    heads = (
        Head("method"),
        Head("k-NN", "number", meaning="knn k=20 top1"),
        Head("AP^b", "number"),
    )
    rows = (
        (Entry("dino"), Entry("88.2", "0.4", 3, True), Entry("–", notes=(1,))),
        (Entry("beit"), Entry("7.5", "0.2", 3), Entry("29.5")),
    )
    sheet = Sheet("shapes, test split", heads, rows, "tab:x", notes=("No boxes.",))
    assert (
        sheet_to_terminal(sheet, 80)
        == """\
shapes, test split

method          k-NN  AP^b
------  ------------  ----
dino    *88.2 ± 0.4*  –[1]
beit       7.5 ± 0.2  29.5

k-NN = knn k=20 top1.
[1] No boxes.
"""
    )
    assert sheet_to_terminal(sheet, 18).splitlines()[2:5] == [
        "method dino",
        "    k-NN: *88.2 ±",
        "    0.4*",
    ]


def test_names_do_nothing() -> None:
    shown = to_text(build([record("[red]x[/red]\x1b[31m")], "all", KNOWN), 80)
    assert "[red]x[/red][31m" in shown and "\x1b" not in shown


def test_a_terminal_s_table_leaves_the_files_as_they_are(tmp_path: Path) -> None:
    Store(tmp_path / "records.jsonl").append(results())
    markdown = write_tables(tmp_path)
    assert write_tables(tmp_path, width=60) != markdown
    assert table(tmp_path, "all", "md", 60) != table(tmp_path, "all", "md")
    assert (tmp_path / "table.md").read_text() == markdown


@pytest.mark.parametrize("width", [60, 80])
def test_published_figures_fit_too(tmp_path: Path, width: int) -> None:
    shown = published(tmp_path, "frozen", "md", width)
    assert max(map(cell_len, shown.splitlines())) <= width
    assert "75.2" in shown and "arXiv:2111.07832" in shown
