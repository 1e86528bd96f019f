"""Records stand beside the figures of the same pretraining and images, and beside no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sslbench.checkpoints.releases import MULTI_CROP
from sslbench.reporting.columns import Conventions
from sslbench.reporting.comparison import HEAD, NO_RECORDS, OLDER, UNMATCHED, compare
from sslbench.reporting.listing import Listing
from sslbench.reporting.published import Counterpart, Figure, read_counterparts, read_figures
from sslbench.reporting.views import View
from sslbench.result import Result

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
    "near", "k=*", "top1", "", "", "", "imagenet_near", "frozen | released", "top1", "ImageNet-1K",
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


def compared(
    *records: Result, figures: list[Figure] | None = None, direction: str = "higher", **view: Any
) -> Listing:
    known = {"near": Conventions(direction=lambda *_: direction)}
    return compare(records, figures or [PAPER, README], [NEAR], ["alpha"], View(**view), known)


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
    listing = compared(ours(identified="hash"))
    assert listing.remarks[0] == "near differs." and "without epochs" in listing.remarks[1]
    assert listing.notes == {1: ("a/b@1234567, README.md: rounded.",)}
    assert compared(ours(), figures=[PAPER]).remarks == ("near differs.",)


@pytest.mark.parametrize(
    ("identified", "note"),
    [
        ("file name", "derived from its file name, not verified"),
        ("user", "as the user states them"),
    ],
)
def test_t4_what_nobody_verified_is_said_beside_the_figure(identified: str, note: str) -> None:
    listing = compared(ours(identified=identified), figures=[PAPER])
    (said,) = listing.notes[0]
    assert note in said and rows(listing)[0]["ours"] == 75.0


def test_t4_older_records_do_not_say_how_they_are_known() -> None:
    assert compared(ours(), figures=[PAPER]).notes == {0: (OLDER,)}
    assert compared(ours(identified="hash"), figures=[PAPER]).notes == {}


@pytest.mark.parametrize(
    ("recipe", "settings", "shown"),
    [
        ("papers/alpha_in1k", {}, True),
        ("papers/alpha_in1k", {"optim.lr": 0.1}, False),
        ("mine", {}, False),
        ("mine", {"optim.lr": 0.1}, False),
    ],
)
def test_t2_runs_of_other_settings_are_never_set_beside(
    recipe: str, settings: dict[str, Any], shown: bool
) -> None:
    run = ours(recipe=recipe, recipe_digest="d", settings=settings, identified="run")
    listing = compared(run, figures=[PAPER])
    assert {row["ours"] for row in rows(listing)} == ({75.0} if shown else {"–"})
    assert (UNMATCHED in listing.remarks) is not shown


def test_t14_a_missing_number_is_never_set_beside() -> None:
    gone = ours(float("nan"), missing="No labels.")
    assert {row["ours"] for row in rows(compared(gone, figures=[PAPER]))} == {"–"}
    beside = ours(74.0, setting="k=10")
    assert [row["ours"] for row in rows(compared(gone, beside, figures=[PAPER]))] == [74.0]


def test_r5_the_best_is_what_the_direction_says() -> None:
    several = [ours(v, setting=f"k={k}") for k, v in ((10, 74.0), (20, 76.0))]
    for direction, best in (("higher", 76.0), ("lower", 74.0), ("", "–")):
        (row,) = rows(compared(*several, figures=[PAPER], direction=direction))
        assert row["ours"] == best
    (row,) = rows(compared(several[0], figures=[PAPER], direction=""))
    assert row["ours"] == 74.0  # nothing to choose


def test_r3_rows_that_would_look_alike_say_which_they_are() -> None:
    two = [ours(70.0 + n, sha256=x * 64, label=x, identified="hash") for n, x in enumerate("ab")]
    listing = compared(*two, figures=[PAPER])
    assert [row["ours"] for row in rows(listing)] == [70.0, 71.0]
    assert listing.notes == {0: ("Ours: a.",), 1: ("Ours: b.",)}


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
        75.2, "–", "near ImageNet-1K top1",
    )  # fmt: skip
    assert len(rows(compared(figures=figures, everything=True))) == 2
    assert [r["ours"] for r in rows(compared(ours(), figures=figures, everything=True))] == [
        75.0,
        "–",
    ]


def published_beside(method: str, changes: Any, *column: str) -> list[dict[str, Any]]:
    """The shipped figures beside a record of `column` (benchmark, setting, metric)."""
    where = dict(zip(("benchmark", "setting", "metric"), column, strict=True))
    listing = compare(
        [record(method, 50.0, **{**where, **changes})],
        read_figures(SHIPPED / "published.csv"),
        read_counterparts(SHIPPED / "counterparts.csv"),
        [],
        View(),
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
        ("ibot", "linear", "released fine-tuned classifier", "top1", IBOT | IMAGES, []),
        ("ibot", "linear", "classifier of the run", "top1", IBOT | IMAGES, []),
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


def test_a_mean_over_seeds_says_so() -> None:
    listing = compared(ours(75.0, seed=0), ours(76.0, seed=1), figures=[PAPER])
    assert rows(listing)[0]["ours"] == 75.5
    assert "Ours: mean of 2 seeds, standard deviation 0.71." in listing.notes[0]
    assert not [n for n in compared(ours(), figures=[PAPER]).notes.get(0, ()) if "mean" in n]


def test_a_folder_without_records_is_said_and_no_column_comes_twice() -> None:
    listing = compared(columns=("published", "Published"))
    assert NO_RECORDS in listing.remarks and listing.chosen().head == ("published",)
    assert NO_RECORDS not in compared(ours()).remarks
