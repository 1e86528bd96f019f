"""Markdown, LaTeX and CSV print the same table, whatever characters its names hold."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslbench.reporting.formats import to_csv, to_latex, to_markdown
from sslbench.reporting.store import Store
from sslbench.reporting.table import Table, build

from .records import boxes, masks, record

ROOT = Path(__file__).parents[2]
AWKWARD = r"[*a_b & 50% #1 {x} ~ \end{table} ^ $ | <i> * `é± 蝶 AP^b" + '"'


def table() -> Table:
    results = [record("random-init", 20.0), record("pixels", 15.0, arch="")]
    results += [record("alpha", 50.0 + i, seed=i) for i in range(3)]
    results += [record("alpha", 30.0, setting="1% labels", benchmark="few", seed=0)]
    results += [record("beta", 60.0, effective_epochs=40.0)]
    results += [record("beta", dataset=AWKWARD, dataset_fingerprint="f2")]
    results += [record(AWKWARD, 12.0, setting=AWKWARD, benchmark="far", metric="AP^b")]
    return build(results, "all", {})


def test_markdown() -> None:
    text = to_markdown(table())
    lines = text.splitlines()
    assert "### shapes, test split (data f1)" in lines
    assert "| 51.0 ± 1.0 (n=3) |" in text and "**60.0**" in text and "| – |" in text
    assert "30.0<sup>[2]</sup>" in text and "[2] 1 of this row's 3 seeds.  " in lines
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1


def test_latex_is_well_formed() -> None:
    text = to_latex(table())
    assert text.isascii()
    assert text.count(r"\begin{table}") == text.count("\n\\end{table}") == 2
    for name in ("toprule", "midrule", "bottomrule", "end{tabular}"):
        assert text.count(f"\n\\{name}\n") == 2
    assert r"\textbf{60.0}" in text and r"AP$^{b}$" in text and r"1\% labels" in text
    for spec, body in re.findall(r"tabular}\{([lr]+)}\n(.*?)\\end\{tabular", text, flags=re.S):
        rows = [line for line in body.splitlines() if line.endswith(r" \\")]
        for row in rows[1:]:  # the first row has \multicolumn groups
            assert len(re.findall(r"(?<!\\)&", row)) == len(spec) - 1


def merged() -> Table:
    results = [record("alpha"), boxes("alpha"), boxes("beta"), masks("alpha")]
    return build([*results, boxes("alpha", 20.0, metric="AP^b_50")], "all", {})


def test_datasets_of_a_section_are_named_in_every_format() -> None:
    title = "shapes + scenes-coco + scenes-ade20k, test split (data f1 + c1 + a1)"
    markdown, latex = to_markdown(merged()), to_latex(merged())
    assert f"### {title}" in markdown.splitlines()
    assert (
        "| near k=20 top-1 | boxes (scenes-coco) AP^b | boxes (scenes-coco) AP^b_50 |" in markdown
    )
    assert rf"\caption{{{title}}}" in latex
    assert r"\multicolumn{1}{c}{near} & \multicolumn{2}{c}{boxes (scenes-coco)} & " in latex
    assert r"k=20 top-1 & AP$^{b}$ & AP$^{b}_{50}$ & mIoU \\" in latex
    rows = list(csv.DictReader(io.StringIO(to_csv(merged()))))
    assert {(r["benchmark"], r["dataset"], r["fingerprint"]) for r in rows} == {
        ("near", "shapes", "f1"),
        ("boxes", "scenes-coco", "c1"),
        ("masks", "scenes-ade20k", "a1"),
    }
    assert {r["metric"] for r in rows if r["benchmark"] == "boxes"} == {"AP^b", "AP^b_50"}


@pytest.mark.parametrize("style", ["md", "tex", "csv"])
def test_the_reference_tables_are_what_their_records_give(style: str) -> None:
    folder = ROOT / "results" / "shapes"
    render = {"md": to_markdown, "tex": to_latex, "csv": to_csv}[style]
    table = build(Store(folder / "records.jsonl").load())
    assert render(table) == (folder / f"table.{style}").read_text()


@given(st.text())
def test_latex_escapes_any_text(name: str) -> None:
    text = to_latex(build([record(name, setting="s")], "all", {}))
    assert text.isascii()
    bare = re.sub(r"\\[\\{}$&#%_]", "", text)
    assert bare.count("{") == bare.count("}")
    row = text.split("\\midrule\n")[1].splitlines()[0]
    assert len(re.findall(r"(?<!\\)&", row)) == 5 and row.endswith(r" \\")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    body = to_latex(table()) + to_latex(merged())
    (tmp_path / "t.tex").write_text(head + body + r"\end{document}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_csv_is_exact_and_complete() -> None:
    built = table()
    rows = list(csv.DictReader(io.StringIO(to_csv(built))))
    assert len(rows) == sum(len(s.rows) * len(s.columns) for s in built.sections)
    (alpha,) = [r for r in rows if r["method"] == "alpha" and r["benchmark"] == "near"]
    assert (float(alpha["mean"]), float(alpha["std"]), alpha["n"]) == (51.0, 1.0, "3")
    (hole,) = [r for r in rows if r["method"] == "pixels" and r["benchmark"] == "few"]
    assert (hole["mean"], hole["n"]) == ("", "0")
    assert AWKWARD in {r["method"] for r in rows} and AWKWARD in {r["dataset"] for r in rows}


def test_empty_table() -> None:
    empty = Table(())
    assert to_markdown(empty) == "" and len(to_csv(empty).splitlines()) == 1
    assert "tabular" not in to_latex(empty)
