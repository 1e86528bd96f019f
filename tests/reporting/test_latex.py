"""LaTeX tables fit every page and show every name."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslbench.reporting.columns import Conventions
from sslbench.reporting.latex import sheets_to_latex
from sslbench.reporting.pages import CLOSE, LINES, group_lines, heading_lines, pages
from sslbench.reporting.rendering import to_latex
from sslbench.reporting.sheet import NUMBER, Entry, Head, Sheet, sheets
from sslbench.reporting.table import build
from sslbench.reporting.tex import escape
from sslbench.reporting.views import View
from sslbench.result import Result

from .records import boxes, masks, record

AWKWARD = r"[*a_b & 50% #1 {x} ~ \end{table} ^ $ | <i> * `é± -- ?` !` ,, AP^b" + '"'
NAMES = ["Straße", "Øyvind", "가나다", "形状", "Ångström", "naïve"]


def results() -> list[Result]:
    runs = [record("random-init", 20.0), record("pixels", 15.0, arch="none")]
    runs += [record("alpha", 50.0 + i, seed=i, recipe_digest="d") for i in range(3)]
    runs += [record("alpha", 30.0, setting="1% labels", benchmark="few", recipe_digest="d")]
    runs += [record("beta", 60.0, effective_epochs=40.0)]
    return runs


def tabulars(text: str) -> list[tuple[str, list[str]]]:
    """The column specification and the rows of each table, without those of stacked headings."""
    plain = re.sub(r"\\begin\{tabular}\[b].*?\\end\{tabular}", "stacked", text)
    found = re.findall(r"begin\{tabular}\{@\{}(.*?)@\{}}\n(.*?)\\end\{tabular", plain, flags=re.S)
    return [(spec, [x for x in body.splitlines() if x.endswith(r" \\")]) for spec, body in found]


def cells(row: str) -> int:
    """Columns that a row fills."""
    spans = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d)}", row))
    return len(re.findall(r"(?<!\\)&", row)) + 1 + spans


def test_r4_a_table_has_all_that_a_paper_needs() -> None:
    known = {
        "near": Conventions((("k=20", "top-1"),), lambda *_: "higher", {("k=20", "top-1"): "k-NN"})
    }
    text = to_latex(build(results(), "all", known))
    assert text.startswith("% \\usepackage{booktabs}\n")
    assert r"\caption{shapes, test split. All models: arch vit\_tiny;" in text
    assert r"\label{tab:shapes-test-split}" in text
    assert r"\multicolumn{2}{c}{k-NN}" in text and "k-NN = near k=20 top-1." in text
    assert r"51.0 & $_{\pm 1.0}$" in text and r"\textbf{60.0} & " in text
    assert r"\textsuperscript{a}" in text and "1 of this row's 3 seeds." in text
    for name in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\n\\{name}\n") == 1
    ((spec, rows),) = tabulars(text)
    columns = spec.replace("@{}", "")
    assert len(rows) == 6 and {cells(row) for row in rows} == {len(columns)}


def test_r4_names_keep_their_letters() -> None:
    text = to_latex(build([record(name, 50.0 + n) for n, name in enumerate(NAMES)], "all", {}))
    assert all(name in text for name in NAMES) and "?" not in text
    assert "XeLaTeX or LuaLaTeX" in text
    latin = to_latex(build([record("Straße"), record("Øyvind")], "all", {}))
    assert "XeLaTeX" not in latin  # pdfLaTeX has these


def test_r4_narrow_tables_stand_in_a_column_and_wide_ones_across() -> None:
    few = to_latex(build(results(), View(labels=("method",), columns=("near",)), {}))
    assert r"\begin{table}[tbp]" in few and "table*}" not in few
    many = [record("alpha", 50.0, benchmark=f"bench{n}", seed=0) for n in range(4)]
    many += [record("alpha", 40.0, benchmark=f"bench{n}", seed=1) for n in range(4)]
    assert r"\begin{table*}[tbp]" in to_latex(build([*many, record("beta")], "all", {}))


@pytest.mark.parametrize("columns", [1, 8, 60])
@pytest.mark.parametrize("name", ["ibot", "n" * 200, "a name of several words " * 8])
def test_r4_no_part_is_wider_than_a_line(columns: int, name: str) -> None:
    runs = [
        record(method, 50.0 + seed, seed=seed, setting=f"k={k}, {method}", recipe_digest=method)
        for method in (name, "beta")
        for seed in (0, 1)
        for k in range(columns)
    ]
    (sheet,) = sheets(build(runs, "all", {}))
    parts = pages(sheet)
    assert all(part.width <= CLOSE for part in parts)
    shown = [h.text for part in parts for h in part.sheet.heads if h.kind == NUMBER]
    assert shown == [h.text for h in sheet.heads if h.kind == NUMBER]  # each once, in order


def long_sheet(rows: int) -> Sheet:
    heads = (Head("method"), Head("k-NN", NUMBER, notes=(1,)))
    body = tuple((Entry(f"m{n}", notes=(2 + n % 5,)), Entry(f"{n}.0")) for n in range(rows))
    notes = tuple(f"Note {n} " + "word " * 30 for n in range(6))
    return Sheet("title", heads, body, "tab:x", constants=("arch a",), notes=notes)


def wrapped_sheet(rows: int) -> Sheet:
    """Two columns of names that take several lines each."""
    heads = (Head("model"), Head("source"), *(Head(f"n{n}", NUMBER) for n in range(5)))
    names = (Entry("z" * 60), Entry("word " * 11))
    body = tuple((*names, *(Entry(f"{n}.0", "1.0", 3) for _ in range(5))) for n in range(rows))
    return Sheet("title", heads, body, "tab:y", remarks=("word " * 80,))


def test_r4_long_tables_are_continued_and_every_number_is_shown() -> None:
    parts = pages(long_sheet(130))
    assert 3 <= len(parts) <= 12 and all(len(p.sheet.rows) <= LINES[p.size] for p in parts)
    assert [row[0].text for p in parts for row in p.sheet.rows] == [f"m{n}" for n in range(130)]
    text = sheets_to_latex([long_sheet(130)])
    assert text.count("(continued)") == len(parts) - 1
    labels = re.findall(r"\\label\{(.*?)}", text)
    assert labels[:2] == ["tab:x", "tab:x-2"] and len(set(labels)) == len(parts)


def test_r4_each_part_has_the_notes_that_it_cites() -> None:
    for part in pages(long_sheet(130)):
        cited = {i for row in part.sheet.rows for e in row for i in e.notes}
        cited |= {i for h in part.sheet.heads for i in h.notes}
        assert cited == set(range(1, len(part.sheet.notes) + 1))


def test_datasets_of_a_section_are_named() -> None:
    runs = [record("alpha"), boxes("alpha"), boxes("beta"), masks("alpha")]
    text = to_latex(build([*runs, boxes("alpha", 20.0, metric="AP^b_50")], "all", {}))
    assert r"\caption{shapes + scenes-coco + scenes-ade20k, test split." in text
    assert r"\multicolumn{2}{c}{boxes (scenes-coco)}" in text
    assert r"AP$^{\mathrm{b}}$" in text and r"AP$^{\mathrm{b}}_{50}$" in text


def test_captions_and_labels_are_the_users() -> None:
    view = View(caption="Ours & theirs on {data}", label="tab:ours}%")
    text = to_latex(build(results(), view, {}))
    assert r"\caption{Ours \& theirs on shapes}" in text and r"\label{tab:ours-}" in text
    assert "All models: arch vit" in text  # what the caption would have said stays
    assert r"\label{tab:shapes-test-split}" in to_latex(build(results(), View(label="가"), {}))


def test_no_two_floats_have_one_label() -> None:
    """Neither parts and sections of one label, nor sections of names with nothing to spell."""
    parts = [record("alpha", setting=f"a long setting {n}") for n in range(20)]
    others = [record("alpha", dataset=d, dataset_fingerprint=d) for d in ("가", "나")]
    for view in (View(everything=True, label="tab:x"), View(everything=True)):
        text = to_latex(build([*parts, *others], view, {}))
        labels = re.findall(r"\\label\{(.*?)}", text)
        assert len(set(labels)) == len(labels) == text.count(r"\caption") > 3


def test_a_number_that_is_missing_is_a_dash_and_no_minus() -> None:
    few = [record("alpha", 50.0), record("beta", -5.0, setting="k=5")]
    text = to_latex(build(few, View(everything=True), {}))
    assert "alpha & -- & 50.0" in text and "beta & $-$5.0 & --" in text


@given(st.text())
def test_s3_any_text_is_balanced_and_on_one_line(name: str) -> None:
    text = escape(name, 14)
    assert "\n" not in text
    bare = re.sub(r"\\[\\{}$&#%_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"(?<!\\)[&%#]", text)
    assert not re.search(r"[\x00-\x1f\x7f]", text)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
@pytest.mark.parametrize("options", ["", "twocolumn", "12pt"])
def test_r4_it_compiles_and_nothing_is_overfull(tmp_path: Path, options: str) -> None:
    awkward = record(AWKWARD, 12.0, setting=AWKWARD, benchmark="far", metric="AP^b")
    wide = [record("alpha", 9.0, benchmark=f"bench{n}", setting="a setting") for n in range(20)]
    wide += [record("alpha", 9.0, benchmark=name) for name in ("b" * 60, "a b " * 15, AWKWARD * 2)]
    long = [record("n" * 200, dataset="d" * 200, dataset_fingerprint="f2")]
    named = {"dataset_fingerprint": "f3", "benchmark": "a b " * 15}
    long += [record("a b " * 15, 1.0, label=label, **named) for label in ("M" * 60, "b c " * 15)]
    body = to_latex(build([*results(), awkward, *wide, *long], "all", {}))
    body += sheets_to_latex([long_sheet(100)])
    body += sheets_to_latex([wrapped_sheet(60)])
    head = rf"\documentclass[{options}]{{article}}\usepackage{{booktabs}}\begin{{document}}"
    (tmp_path / "t.tex").write_text(f"{head}{body}\\end{{document}}", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "t.log").read_text(errors="replace")
    assert not re.findall(r"Overfull \\hbox.*|Float too large.*|Missing character.*", log)


def test_long_names_break_where_a_reader_would() -> None:
    assert group_lines("instance_retrieval_on_oxford") == ["instance_retrieval_", "on_oxford"]
    assert heading_lines("k-means, sd of 5 starts") == ["k-means, sd", "of 5 starts"]
    assert heading_lines("x" * 20) == ["x" * 13, "x" * 7]
