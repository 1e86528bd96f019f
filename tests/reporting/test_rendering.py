"""A folder's tables hold all of its records, whatever command wrote last."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sslbench.errors import UserError
from sslbench.reporting import rendering
from sslbench.reporting.store import Store
from sslbench.reporting.table import build
from sslbench.reporting.views import View, layout_view

from .records import record

ROOT = Path(__file__).parents[2]
FILES = {"table.md", "table.tex", "table.csv"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Store(tmp_path / rendering.RECORDS).append([record("alpha"), record("beta", 60.0)])
    return tmp_path


def test_r1_tables_hold_every_record_of_the_folder(folder: Path) -> None:
    rendering.write_tables(folder)
    Store(folder / rendering.RECORDS).append([record("gamma", 70.0)])
    markdown = rendering.write_tables(folder)
    assert (folder / "table.md").read_text(encoding="utf-8") == markdown
    for name in FILES:
        text = (folder / name).read_text(encoding="utf-8")
        assert all(method in text for method in ("alpha", "beta", "gamma")), name


def test_r1_table_writes_them_too_and_always_whole(folder: Path) -> None:
    shown = rendering.table(folder, View(rows=("alpha",)), "md")
    assert "beta" not in shown
    assert all("beta" in (folder / name).read_text(encoding="utf-8") for name in FILES)


def test_the_records_are_read_once(folder: Path, monkeypatch) -> None:
    reads, load = [], Store.load
    monkeypatch.setattr(Store, "load", lambda store: reads.append(store) or load(store))
    rendering.table(folder, "frozen", "md")
    assert len(reads) == 1


def test_r1_nothing_is_replaced_by_an_empty_table(folder: Path) -> None:
    rendering.write_tables(folder)
    before = {name: (folder / name).read_bytes() for name in FILES}
    (folder / rendering.RECORDS).write_text("")
    rendering.write_tables(folder)
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_formats_and_folders_that_do_not_exist_are_named(folder: Path) -> None:
    with pytest.raises(UserError, match="unknown format 'mdd': did you mean 'md'"):
        rendering.table(folder, "frozen", "mdd")
    with pytest.raises(UserError, match=r"run `sslbench evaluate --out '.*no where'"):
        rendering.table(folder / "no where", "frozen", "md")
    with pytest.raises(
        UserError, match=r"--labels, and layouts .* cannot be combined with --published"
    ):
        rendering.published(folder, View(labels=("method",)), "md")


@pytest.mark.parametrize(
    ("number", "figures"), [("1", 33), ("2", 12), ("3", 5), ("4", 12), ("7", 48)]
)
def test_a_papers_table_shows_its_own_figures(folder: Path, number: str, figures: int) -> None:
    text = rendering.published(folder, f"ibot-table{number}", "csv")
    rows = list(csv.DictReader(text.splitlines()))
    assert {(row["source"], row["table"]) for row in rows} == {
        ("arXiv:2111.07832", f"Table {number}")
    }
    assert len(rows) == figures


@pytest.mark.parametrize("style", rendering.FORMATS)
def test_the_reference_tables_are_what_their_records_give(style: str) -> None:
    folder = ROOT / "results" / "shapes"
    name, render = rendering.FORMATS[style]
    built = build(Store(folder / rendering.RECORDS).load(), layout_view("frozen"))
    assert render(built) == (folder / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("style", rendering.FORMATS)
def test_a_table_without_records_is_empty(style: str) -> None:
    text = rendering.FORMATS[style][1](build([], "frozen", {}))
    assert "alpha" not in text and "tabular" not in text
