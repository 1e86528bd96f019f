"""Records stand beside the figures of the same pretraining and images, and beside no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sslbench.backbones.weights import MULTI_CROP
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
    "near", "k=*", "top1", "", "", "imagenet_near", "frozen | released", "top1", "ImageNet-1K",
    50000, "near differs",
)  # fmt: skip

SHIPPED = Path(__file__).parents[2] / "results"
IMAGES = {"dataset": "/data/imagenet", "n": 50_000}
COCO = {"dataset": "coco", "n": 5000, "pool": "", "protocol": {"config": "coco_vits16"}}
IBOT = {"arch": "ViT-S/16", "pretrain_data": "IN-1K", "epochs": 800.0, "effective_epochs": 3072.0}
RELATIVE = {"arch": "ViT-B/16 rel"}
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
    short = ours(70.0, epochs=100.0, effective_epochs=384.0)
    longest = ours(75.0)
    both = [PAPER, README]
    assert [r["ours"] for r in rows(compared(short, longest, figures=both))] == [75.0, 75.0]


def test_a_figure_whose_epochs_nobody_states_has_no_counterpart() -> None:
    assert {r["ours"] for r in rows(compared(ours(), figures=[README]))} == {"–"}
    crops = replace(PAPER, pretrain_epochs=None, setting="frozen")  # effective epochs alone
    assert {r["ours"] for r in rows(compared(ours(), figures=[crops]))} == {"–"}
    assert {r["ours"] for r in rows(compared(ours(), figures=[PAPER, crops]))} == {75.0}


@pytest.mark.parametrize(
    ("epochs", "effective", "same"),
    [(800.0, 3069.4, True), (800.0, 0.0, False), (1600.0, 3200.0, False), (0.0, 0.0, False)],
)
def test_effective_epochs_alone_are_those_of_the_usual_crops(
    epochs: float, effective: float, same: bool
) -> None:
    alone = replace(PAPER, arch="ViT-B/16", pretrain_epochs=None)
    record = ours(arch="ViT-B/16", epochs=epochs, effective_epochs=effective)
    found = {r["ours"] for r in rows(compared(record, figures=[PAPER, alone]))}
    assert found == ({75.0} if same else {"–"})


def test_relative_positions_are_another_architecture() -> None:
    assert {r["ours"] for r in rows(compared(ours(arch="ViT-S/16 rel"), figures=[PAPER]))} == {"–"}


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


def published_beside(method: str, changes: Any, *column: str) -> list[dict[str, Any]]:
    """The shipped figures beside a record of `column` (benchmark, setting, metric)."""
    where = dict(zip(("benchmark", "setting", "metric"), column, strict=True))
    listing = compare(
        [record(method, 50.0, **{**where, **changes})],
        read_figures(SHIPPED / "published.csv"),
        read_counterparts(SHIPPED / "counterparts.csv"),
        [],
        "frozen",
    )
    return rows(listing)


@pytest.mark.parametrize(
    ("method", "benchmark", "setting", "metric", "changes", "published"),
    [
        ("ibot", "knn", "k=20", "top1", IBOT | IMAGES, [75.2, 75.2]),  # Table 1 and the README
        ("ibot", "linear", "best of 45 lr", "top1", IBOT | IMAGES, [77.9] * 3),  # and Table 19
        ("ibot", "linear", "best of 3 lr", "top1", IBOT | IMAGES, []),
        ("ibot", "linear_online", "best of 3 lr", "top1", IBOT | IMAGES, []),
        ("ibot", "linear", "released classifier", "top1", IBOT | IMAGES, [77.9, 77.9]),
        ("ibot", "clustering", "argmax of 1000-d head", "NMI", IBOT | IMAGES, [78.6]),
        ("ibot", "clustering", "argmax of 1000-d head", "ARI", IBOT | IMAGES, [32.8]),
        ("ibot", "clustering", "argmax of 8192-d head", "ARI", IBOT | IMAGES, []),
        ("ibot", "clustering", "argmax of head", "ARI", IBOT | IMAGES, []),  # an older record
        ("ibot", "clustering", "k-means", "NMI", IBOT | IMAGES, []),
        ("ibot", "detection", "", "AP^m_75", IBOT | COCO, [45.8]),
        ("dino", "semi_supervised", "1% linear, best of 45 lr", "top1", IBOT | IMAGES, [60.5]),
        ("dino", "semi_supervised", "1% linear, best of 3 lr", "top1", IBOT | IMAGES, []),
        ("dino", "semi_supervised", "10% knn k=10", "top1", IBOT | IMAGES, [69.1] * 2),
        ("beit", "linear_layers", "best block", "top1", BEIT | IMAGES, [56.7]),
        ("beit", "linear_layers", "best block", "top1", BEIT | RELATIVE | IMAGES, []),
        ("beit", "knn", "k=20", "top1", BEIT | IMAGES, []),
    ],
)  # fmt: skip
def test_shipped_figures_meet_records(
    method: str, benchmark: str, setting: str, metric: str, changes: Any, published: list[float]
) -> None:
    found = published_beside(method, changes, benchmark, setting, metric)
    assert [row["published"] for row in found] == published
    assert all(row["difference"] == 50 - row["published"] for row in found)


KNN, LINEAR = ("knn", "k=20", "top1"), ("linear", "best of 45 lr", "top1")
RANDOM = "papers/ibot_vit-{}-random-mask_in1k"


@pytest.mark.parametrize(
    ("arch", "recipe", "epochs", "near", "linear"),
    [
        ("ViT-B/16", "ibot_vitb16_rand", 400, {77.3}, {79.8}),
        ("ViT-B/16", RANDOM.format("base-p16_bs1024-coslr-400e"), 400, {77.3}, {79.8}),
        ("ViT-B/16", "ibot_vitb16", 400, {77.1, 76.8}, {79.5, 79.4}),
        ("ViT-B/16", "", 400, set(), set()),
        ("ViT-L/16", "ibot_vitl16_rand", 0, {77.7}, {81.3}),  # nobody states its epochs
        ("ViT-L/16", RANDOM.format("large-p16_64xb16-coslr-250e"), 250, {77.7}, {81.3}),
        ("ViT-L/16", RANDOM.format("large-p16_64xb16-coslr-250e"), 0, set(), set()),
        ("ViT-L/16", "ibot_vitl16", 250, {78.0}, {81.0}),
    ],
)
def test_random_masks_and_blocks_are_told_apart(
    arch: str, recipe: str, epochs: float, near: set[float], linear: set[float]
) -> None:
    card = {"arch": arch, "recipe": recipe, "pretrain_data": "IN-1K", "epochs": float(epochs)}
    card |= IMAGES | {"effective_epochs": round(epochs * MULTI_CROP, 2)}
    assert {row["published"] for row in published_beside("ibot", card, *KNN)} == near
    assert {row["published"] for row in published_beside("ibot", card, *LINEAR)} == linear
    boxes = published_beside("ibot", card | COCO, "detection", "", "AP^b")
    assert bool(boxes) == (recipe == "ibot_vitb16")  # Table 6; none of ViT-L


@pytest.mark.parametrize(
    ("local_crops", "epochs", "published"),
    [
        (10, 300, [76.1, 76.1, 76.2]),  # DINO's Tables 7 and 8, iBOT's Table 19
        (6, 300, [75.9]),
        (2, 300, [74.5]),
        (0, 300, [72.5, 72.5]),
        (0, 800, [73.7]),
        *((other, 300, []) for other in (1, 3, 5, 7, 8, 9, 11, 12)),
    ],
)
def test_crops_are_told_apart(local_crops: int, epochs: float, published: list[float]) -> None:
    area = 2 + local_crops * (96 / 224) ** 2
    card = IBOT | IMAGES | {"epochs": epochs, "effective_epochs": round(epochs * area, 2)}
    found = published_beside("dino", card, *LINEAR)
    assert sorted(row["published"] for row in found) == published


@pytest.mark.parametrize(
    ("arch", "epochs", "published"),
    [
        ("ViT-S/8", 800, [78.3, 78.3]),
        ("ViT-S/8", 300, []),
        ("ViT-B/8", 300, [77.4, 77.4]),
        ("ViT-B/8", 3, []),
    ],
)
def test_small_patches_meet_the_released_epochs_only(
    arch: str, epochs: float, published: list[float]
) -> None:
    card = IBOT | IMAGES | {"arch": arch, "epochs": epochs}
    card["effective_epochs"] = round(epochs * MULTI_CROP, 2)
    found = published_beside("dino", card, *KNN)
    assert [row["published"] for row in found] == published


def test_beits_linear_probe_says_how_it_differs() -> None:
    (note,) = {c.note for c in read_counterparts() if c.benchmark == "linear_layers"}
    assert "100 epochs" in note and "for 50" in note and "mean patch" in note


def test_figures_are_shown_in_the_tables_words() -> None:
    """What is "published as" is the setting of results/published.csv, word for word."""
    found = published_beside("ibot", IBOT | IMAGES, *KNN)
    words = [row["published as"] for row in found]
    assert words == ["frozen, best k", "released checkpoint, block masking"]
    assert set(words) <= {f.setting for f in read_figures()}
