"""Data are one where their content is, whatever machine they were read on."""

from __future__ import annotations

from sslbench.reporting.table import build
from sslbench.reporting.views import View

from .records import record

HERE, THERE = "/home/ann/data/birds", "/mnt/work/bob/birds/"


def test_r2_two_checkouts_make_one_table_with_shared_floors() -> None:
    floors = [record("random-init", 20.0, dataset=HERE), record("pixels", 15.0, dataset=HERE)]
    (s,) = build([*floors, record(dataset=HERE), record("beta", dataset=THERE)], "all", {}).sections
    assert [row.key.method for row in s.rows] == ["random-init", "pixels", "alpha", "beta"]
    assert [source.dataset for source in s.sources] == ["birds"]
    assert not any("floor" in remark or "versions" in remark for remark in s.remarks)


def test_r2_the_newest_name_counts() -> None:
    named = record("beta", dataset="Birds-525", date="2026-02-01")
    (s,) = build([record(dataset=HERE), named], "all", {}).sections
    assert s.sources[0].dataset == "Birds-525"


def test_r2_equal_names_of_other_content_stay_apart() -> None:
    other = record("beta", dataset=THERE, dataset_fingerprint="f2")
    first, second = build([record(dataset=HERE), other], "all", {}).sections
    assert [s.sources[0].dataset for s in (first, second)] == ["birds", "birds"]
    assert all("other splits or versions" in s.remarks[-1] for s in (first, second))


def test_only_data_of_the_columns_shown_are_named() -> None:
    boxes = record(benchmark="boxes", dataset="scenes", dataset_fingerprint="c1", pool="")
    (s,) = build([record(), boxes], View(columns=("near",)), {}).sections
    assert [source.dataset for source in s.sources] == ["shapes"]
