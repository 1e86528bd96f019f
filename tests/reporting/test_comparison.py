"""Records stand beside the figures of the same pretraining and images, and beside no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sslbench.errors import UserError
from sslbench.reporting.comparison import HEAD, compare
from sslbench.reporting.listing import Listing
from sslbench.reporting.published import Counterpart, Figure, read_counterparts, read_figures
from sslbench.reporting.result import Result

from .records import record

PAPER = Figure(
    "Alpha", "ViT-S/16", "IN-1K", 800, 3200, "imagenet_near", "ImageNet-1K", "frozen", "top1",
    75.2, "arXiv:0000.00000", "Table 1", "",
)  # fmt: skip
README = replace(
    PAPER, pretrain_epochs=None, effective_epochs=None, value=75.0, source="a/b@1234567",
    table="README.md", setting="released", detail="rounded",
)  # fmt: skip
NEAR = Counterpart(
    "near", "k=*", "top1", "", "imagenet_near", "frozen | released", "top1", "ImageNet-1K", 50000,
    "near differs",
)  # fmt: skip

SHIPPED = Path(__file__).parents[2] / "results"
IMAGES = {"dataset": "/data/imagenet", "n": 50_000}
COCO = {"dataset": "coco", "n": 5000, "pool": "", "protocol": {"config": "coco_vits16"}}
IBOT = {"arch": "ViT-S/16", "pretrain_data": "IN-1K", "epochs": 800.0, "effective_epochs": 3072.0}
BEIT = {"arch": "ViT-B/16", "pretrain_data": "IN-1K", "epochs": 800.0, "effective_epochs": 800.0}


def ours(value: float = 75.0, **changes: Any) -> Result:
    card = {"arch": "ViT-S/16", "pretrain_data": "IN-1K", "epochs": 800.0}
    card["effective_epochs"] = 800 * 3.84
    where = {"dataset": "ImageNet-1K", "metric": "top1", "n": 50_000}
    return record("alpha", value, **{**card, **where, **changes})


def compared(*records: Result, figures: list[Figure] | None = None, **settings: Any) -> Listing:
    given = {"methods": ["alpha"], "layout": "frozen", **settings}
    return compare(records, figures or [PAPER, README], [NEAR], **given)


def rows(listing: Listing) -> list[dict[str, Any]]:
    assert listing.head == HEAD
    return [dict(zip(HEAD, row, strict=True)) for row in listing.rows]


def test_ours_stands_beside_every_source() -> None:
    first, second = rows(compared(ours(74.7)))
    assert (first["ours"], first["published"]) == (74.7, 75.2)
    assert first["difference"] == pytest.approx(-0.5)
    assert (first["source"], first["table"]) == ("arXiv:0000.00000", "Table 1")
    assert [first[k] for k in ("benchmark", "features", "epochs")] == ["near k=20 top1", "cls", 800]
    assert (second["published"], second["published as"]) == (75.0, "released")


def test_notes_of_all_kinds_are_printed() -> None:
    remarks = compared(ours()).remarks
    assert remarks[0] == "near differs."
    assert "states no epochs" in remarks[1]
    assert remarks[2] == "a/b@1234567, README.md: rounded."
    assert compared(ours(), figures=[PAPER]).remarks == ("near differs.",)


def test_the_best_setting_counts_and_seeds_are_averaged() -> None:
    records = [ours(v, seed=s, setting=k) for k, s, v in (
        ("k=10", 0, 74.0), ("k=10", 1, 76.5), ("k=20", 0, 75.0), ("k=20", 1, 75.1),
    )]  # fmt: skip
    (row,) = rows(compared(*records, figures=[PAPER]))
    assert (row["ours"], row["benchmark"]) == (75.25, "near k=10 top1")


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "shapes"},
        {"n": 10_000},
        {"arch": "ViT-B/16"},
        {"pretrain_data": "shapes"},
        {"epochs": 300.0, "effective_epochs": 300 * 3.84},
        {"effective_epochs": 1600.0},  # no local crops
        {"metric": "top5"},
        {"benchmark": "other"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_models_and_images_are_never_set_beside(changes: dict[str, Any]) -> None:
    listing = compared(ours(**changes), figures=[PAPER])
    assert {row["ours"] for row in rows(listing)} == {"–"}
    assert "No record here has a published counterpart" in listing.remarks[0]


def test_figures_without_epochs_are_of_the_longest_pretraining() -> None:
    short = ours(70.0, epochs=100.0, effective_epochs=0.0)
    longest = ours(75.0)
    both = [PAPER, README]
    assert [r["ours"] for r in rows(compared(short, longest, figures=both))] == [75.0, 75.0]
    (alone,) = rows(compared(short, figures=[README]))  # nobody states any: it is shown
    assert alone["ours"] == 70.0


def test_our_architecture_may_say_more() -> None:
    (row,) = rows(compared(ours(arch="ViT-S/16 rel"), figures=[PAPER]))
    assert (row["arch"], row["ours"]) == ("ViT-S/16 rel", 75.0)


def test_a_number_without_pool_is_shown_once() -> None:
    pooled = [ours(1.0, setting="other", pool=pool) for pool in ("cls", "mean")]
    assert len(rows(compared(*pooled, ours(pool=""), figures=[PAPER]))) == 1
    (first, second) = rows(compared(ours(pool="cls"), ours(76.0, pool="mean"), figures=[PAPER]))
    assert (first["features"], second["features"]) == ("cls", "mean")


def test_without_records_the_methods_own_figures_are_shown() -> None:
    other = replace(PAPER, method="Beta")
    hidden = replace(PAPER, benchmark="imagenet_far")
    figures = [PAPER, other, hidden]
    (row,) = rows(compared(figures=figures))
    assert (row["published"], row["ours"], row["benchmark"]) == (
        75.2, "–", "imagenet_near ImageNet-1K top1",
    )  # fmt: skip
    assert len(rows(compared(figures=figures, layout="all"))) == 2
    assert [r["ours"] for r in rows(compared(ours(), figures=figures, layout="all"))] == [75.0, "–"]


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(UserError, match="unknown layout 'al'"):
        compared(layout="al")


@pytest.mark.parametrize(
    ("method", "benchmark", "setting", "metric", "changes", "published"),
    [
        ("ibot", "knn", "k=20", "top1", IBOT | IMAGES, [75.2, 75.2]),  # Table 1 and the README
        ("ibot", "linear", "best of 45 lr", "top1", IBOT | IMAGES, [77.9, 77.9]),
        ("ibot", "linear", "released classifier", "top1", IBOT | IMAGES, [77.9, 77.9]),
        ("ibot", "clustering", "argmax of head", "NMI", IBOT | IMAGES, [78.6]),
        ("ibot", "clustering", "argmax of head", "ARI", IBOT | IMAGES, [32.8]),
        ("ibot", "clustering", "k-means", "NMI", IBOT | IMAGES, []),
        ("ibot", "detection", "", "AP^m_75", IBOT | COCO, [45.8]),
        ("dino", "semi_supervised", "1% linear, best of 45 lr", "top1", IBOT | IMAGES, [60.5]),
        ("dino", "semi_supervised", "10% knn k=10", "top1", IBOT | IMAGES, [69.1] * 2),
        ("beit", "linear_layers", "best block", "top1", BEIT | IMAGES, [56.7]),
        ("beit", "knn", "k=20", "top1", BEIT | IMAGES, []),
    ],
)  # fmt: skip
def test_shipped_figures_meet_records(
    method: str, benchmark: str, setting: str, metric: str, changes: Any, published: list[float]
) -> None:
    column = {"benchmark": benchmark, "setting": setting, "metric": metric}
    listing = compare(
        [record(method, 50.0, **column, **changes)],
        read_figures(SHIPPED / "published.csv"),
        read_counterparts(SHIPPED / "counterparts.csv"),
        [],
        "frozen",
    )
    assert [row["published"] for row in rows(listing)] == published
    assert all(row["difference"] == 50 - row["published"] for row in rows(listing))
