"""CSV is exact, complete and safe to open."""

from __future__ import annotations

import csv
import io

import pytest

from sslbench.reporting.spreadsheet import to_csv
from sslbench.reporting.table import build

from .records import boxes, masks, record


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_numbers_are_exact_and_holes_are_kept() -> None:
    runs = [record("alpha", 50.0 + i, seed=i, recipe_digest="d") for i in range(3)]
    few = record("alpha", 30.0, setting="1% labels", benchmark="few", recipe_digest="d")
    built = build([*runs, few, record("pixels", 15.0, arch="none")], "all", {})
    rows = read(to_csv(built))
    assert len(rows) == sum(len(s.rows) * len(s.columns) for s in built.sections) == 4
    (alpha,) = [r for r in rows if r["method"] == "alpha" and r["benchmark"] == "near"]
    assert (float(alpha["mean"]), float(alpha["std"]), alpha["n"]) == (51.0, 1.0, "3")
    (hole,) = [r for r in rows if r["method"] == "pixels" and r["benchmark"] == "few"]
    assert (hole["mean"], hole["n"]) == ("", "0")
    (partial,) = [r for r in rows if r["method"] == "alpha" and r["benchmark"] == "few"]
    assert partial["notes"] == "1 of this row's 3 seeds."


def test_each_number_has_its_own_data() -> None:
    rows = read(to_csv(build([record(), boxes(), masks()], "all", {})))
    assert {(r["benchmark"], r["dataset"], r["fingerprint"]) for r in rows} == {
        ("near", "shapes", "f1"),
        ("boxes", "scenes-coco", "c1"),
        ("masks", "scenes-ade20k", "a1"),
    }


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1+1", "＝1+1"])
def test_s3_no_name_is_a_formula(name: str) -> None:
    runs = [record(name, label=name, setting=name, dataset=name), record("beta", dataset=name)]
    for line in csv.reader(io.StringIO(to_csv(build(runs, "all", {})))):
        texts = [cell for cell in line if not cell.replace(".", "").isdecimal()]
        assert not [t for t in texts if t.startswith(("=", "+", "-", "@", "\t", "\r", "＝"))]
        assert line[0] == "dataset" or line[0].startswith("'")


def test_names_are_kept_whole() -> None:
    name = "n" * 200
    assert name in to_csv(build([record(name)], "all", {}))
