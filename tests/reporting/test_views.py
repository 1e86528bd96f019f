"""Rows, columns and names of a table are chosen, in any order, and wrong ones are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sslbench.errors import UserError
from sslbench.reporting.columns import Conventions
from sslbench.reporting.section import Section
from sslbench.reporting.table import build
from sslbench.reporting.views import View, items_of, layout_view, names_of

from .records import INPUT, record

KNOWN = {
    "near": Conventions((("k=20", "top1"),), headings={("k=20", "top1"): "k-NN"}),
    "linear": Conventions((("best, of 3", "top1"),), headings={("best, of 3", "top1"): "linear"}),
}
RECORDS = [
    record(method, value, benchmark=benchmark, setting=setting, metric="top1", arch=arch)
    for method, value in (("random-init", 5.0), ("alpha", 50.0), ("beta", 60.0))
    for arch in ("ViT-S/16", "ViT-B/16")
    for benchmark, setting in (("near", "k=20"), ("near", "k=5"), ("linear", "best, of 3"))
]
RECORDS = [
    record(r.model.method, r.value, benchmark=r.benchmark, setting=r.setting, metric="top1",
           arch=r.model.arch, sha256=f"{r.model.method}{r.model.arch}")
    for r in RECORDS
]  # fmt: skip
RECORDS.append(replace(RECORDS[-1], metric="of"))


def section(**view: Any) -> Section:
    (only,) = build(RECORDS, View(**view), KNOWN).sections
    return only


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        ("k-NN", ["near k=20 top1"]),
        ("linear, near", ["linear best, of 3 top1", "near k=20 top1"]),
        ("near k=5, near k=20", ["near k=5 top1", "near k=20 top1"]),
        ("NEAR K=20 top1", ["near k=20 top1"]),
        ("linear best of 3", ["linear best, of 3 top1"]),
        ("linear of", ["linear best, of 3 of"]),  # the metric that is named, not the main one
        ("linear best of 3 top1", ["linear best, of 3 top1"]),
    ],
)
def test_columns_are_asked_for_by_words(asked: str, columns: list[str]) -> None:
    found = [" ".join(key) for key, _ in section(columns=items_of(asked)).columns]
    assert found == columns


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ("beta, alpha ViT-S/16", ["beta ViT-B/16", "beta ViT-S/16", "alpha ViT-S/16"]),
        ("*ph*", ["alpha ViT-B/16", "alpha ViT-S/16"]),
        ("vit-b/16", ["random-init ViT-B/16", "alpha ViT-B/16", "beta ViT-B/16"]),
    ],
)
def test_rows_are_asked_for_by_patterns(asked: str, rows: list[str]) -> None:
    s = section(rows=items_of(asked), labels=("method", "arch"))
    assert [" ".join(row.labels) for row in s.rows] == rows


def test_names_are_changed_everywhere() -> None:
    s = section(names=names_of(["alpha=Ours", "k-NN=near", "method=Method"]))
    assert "Ours" in {row.labels[0] for row in s.rows} and s.labels[0].text == "Method"
    assert [h.text for _, h in s.columns] == ["linear", "near"]
    assert s.columns[1][1].meaning == "near k=20 top1"


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"columns": ("far",)}, "no column matches 'far'; there are: .*near k=5 top1"),
        ({"columns": ("near k=7",)}, "no column matches 'near k=7'"),
        ({"rows": ("gamma",)}, "no row matches 'gamma'; there are: random-init, alpha, beta"),
        ({"labels": ("methods",)}, "unknown label column 'methods': did you mean 'method'"),
        ({"sort": ("size",)}, "unknown label column 'size'"),
    ],
)
def test_what_does_not_exist_is_one_sentence(view: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        section(**view)


def test_a_partial_view_leaves_out_columns_without_records() -> None:
    partial = View(columns=("far k=1", "k-NN"), partial=True)
    (s,) = build(RECORDS, partial, KNOWN).sections
    assert [key.benchmark for key, _ in s.columns] == ["near"]
    with pytest.raises(UserError, match="no column matches 'far k=1'"):
        build(RECORDS, replace(partial, columns=("far k=1", "far k=2")), KNOWN)
    with pytest.raises(UserError, match="no column matches 'far'"):
        build(RECORDS, partial.changed(columns=("far", "k-NN")), KNOWN)
    assert partial.changed(columns=(), caption="x").partial


def test_records_of_older_versions_show_the_papers_choice_alone() -> None:
    linear = {"benchmark": "linear", "setting": "best of 45 lr", "metric": "top1"}
    older = [record("dino", 77.0, version="2", **linear)]
    (s,) = build(older, "optimism").sections
    assert [key for key, _ in s.columns] == [("linear", "best of 45 lr", "top1")]
    assert "older versions" in s.remarks[-1]


def test_a_change_of_name_needs_both() -> None:
    with pytest.raises(UserError, match="--name 'x' is not OLD=NEW"):
        names_of(["x"])


def test_unknown_layouts_are_named() -> None:
    with pytest.raises(UserError, match="unknown layout 'frosen': did you mean 'frozen'"):
        layout_view("frosen")


def test_ibots_table_1_is_one_layout() -> None:
    """Names and order of arXiv:2111.07832, Table 1; the records hold no im/s."""
    columns = (("linear", "best of 45 lr"), ("knn", "k=20"), ("knn", "k=10"))
    records = [
        record(method, value, benchmark=benchmark, setting=setting, metric="top1", arch=arch,
               sha256=f"{method}{arch}", epochs=800.0, effective_epochs=3072.0,
               protocol={"pool": "cls", **INPUT})
        for method, value in (("ibot", 77.9), ("dino", 77.0), ("random-init", 5.0))
        for arch in ("ViT-B/16", "ViT-S/16")
        for benchmark, setting in columns
    ]  # fmt: skip
    (s,) = build(records, "ibot-table1").sections
    heads = [h.text for h in (*s.labels, *(h for _, h in s.columns))]
    assert heads == ["Method", "Arch.", "Par.", "Epo.", "k-NN", "Lin."]
    assert [row.labels[:3] for row in s.rows] == [
        ("DINO", "ViT-S/16", "21.6"),
        ("iBOT", "ViT-S/16", "21.6"),
        ("DINO", "ViT-B/16", "85.6"),
        ("iBOT", "ViT-B/16", "85.6"),
    ]
    assert "im/s: not recorded" in s.remarks[-1]


def test_rows_that_the_chosen_labels_leave_alike_are_told_apart() -> None:
    """R3: BEiT's [CLS] and mean patch are two rows, whatever a layout names rows by."""
    records = [
        record("beit", value, benchmark=benchmark, setting=setting, metric="top1", pool=pool,
               protocol={"pool": pool, **INPUT})
        for pool, value in (("cls", 10.0), ("mean", 20.0))
        for benchmark, setting in (("linear", "best of 45 lr"), ("knn", "k=20"))
    ]  # fmt: skip
    (s,) = build(records, "ibot-table1").sections
    assert [h.text for h in s.labels] == ["Method", "Arch.", "Par.", "Epo.", "features"]
    assert [row.labels[-1] for row in s.rows] == ["cls", "mean"]


def test_every_column_that_an_error_names_can_be_asked_for() -> None:
    with pytest.raises(UserError) as raised:
        section(columns=("nope",))
    names = items_of(str(raised.value).partition("there are: ")[2].removesuffix("."))
    assert len(names) == 4
    found = [section(columns=items_of(name)).columns for name in names]
    assert [len(columns) for columns in found] == [1] * 4
    assert len({columns[0][0] for columns in found}) == 4
