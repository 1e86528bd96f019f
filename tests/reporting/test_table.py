"""The table is a pure function of records and never hides what it mixes."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslbench.benchmark import Benchmark
from sslbench.errors import UserError
from sslbench.reporting.columns import HIGHER, Conventions, installed_conventions
from sslbench.reporting.table import Cell, Section, build
from sslbench.result import Result

from .records import INPUT, boxes, masks, record


def higher(setting: str, metric: str) -> str:
    return HIGHER


MAIN = {
    "near": Conventions((("k=20", "top-1"),), higher),
    "boxes": Conventions(direction=higher),
    "masks": Conventions(direction=higher),
}
FLOORS = [record("random-init", 20.0), record("pixels", 15.0, arch="")]


def section(*results: Result, layout: str = "frozen") -> Section:
    (only,) = build([*FLOORS, *results], layout, MAIN).sections
    return only


def column(s: Section, at: int = 0) -> dict[str, Cell]:
    return {row.key.method: row.cells[at] for row in s.rows}


def test_one_seed_is_a_single_value_and_several_are_mean_and_sample_std() -> None:
    seeds = [record("beta", v, seed=i) for i, v in enumerate((50.0, 52.0, 57.0))]
    cells = column(section(record("alpha", 41.26), *seeds))
    assert cells["alpha"].text == "41.3" and cells["alpha"].std is None
    assert cells["beta"].text == "53.0 ± 3.6 (n=3)" and cells["beta"].n == 3
    assert cells["beta"].mean == pytest.approx(53)
    assert cells["beta"].std == pytest.approx((9 + 1 + 16) ** 0.5 / 2**0.5)


def test_figures_by_several_configs_have_a_row_each_and_none_is_hidden() -> None:
    """Nothing of it is older: both stand beside what the config does not concern."""
    by = {name: {"config": name, **INPUT} for name in ("folder_cls", "folder_mean")}
    tuned = [
        record(method, value + 5 * (name == "folder_mean"), benchmark="boxes", protocol=protocol)
        for method, value in (("alpha", 70.0), ("random-init", 60.0))
        for name, protocol in by.items()
    ]
    other = record("beta", 50.0, benchmark="boxes", protocol=by["folder_cls"])
    s = section(record("alpha", 41.0), *tuned, other, layout="all")
    found = {(r.key.method, r.key.config): [c.text for c in r.cells] for r in s.rows}
    assert found["alpha", ""] == ["–", "41.0"]
    assert found["alpha", "folder_cls"] == ["70.0", "–"]
    assert found["alpha", "folder_mean"] == ["75.0", "–"]
    assert found["random-init", "folder_mean"] == ["65.0", "–"]
    assert found["beta", ""] == ["50.0", "–"]
    assert not [note for note in s.notes if "older protocol" in note]
    assert "config" in [label.text for label in s.labels]


def test_floors_come_first_then_methods_by_name_and_pool() -> None:
    s = section(record("beta"), record("alpha", pool="mean"), record("alpha"))
    assert [(r.key.method, r.key.pool) for r in s.rows] == [
        ("random-init", "cls"),
        ("pixels", "cls"),
        ("alpha", "cls"),
        ("alpha", "mean"),
        ("beta", "cls"),
    ]


def test_best_trained_models_are_bold_and_ties_as_printed_share_it() -> None:
    s = section(record("alpha", 51.04), record("beta", 50.96), record("gamma", 30.0))
    assert [m for m, c in column(s).items() if c.bold] == ["alpha", "beta"]


def test_a_better_floor_is_said_but_not_bold() -> None:
    s = section(record("alpha", 10.0), record("beta", 18.0))
    assert [m for m, c in column(s).items() if c.bold] == ["beta"]
    assert "The floor random-init is better than every trained model." in s.notes
    assert s.columns[0][1].notes == (s.notes.index(s.notes[-1]) + 1,)


def test_nothing_to_compare_is_not_bold() -> None:
    assert not any(c.bold for c in column(section(record("alpha"))).values())


def test_missing_records_are_blank_and_never_averaged_over() -> None:
    other = {"setting": "k=10"}
    runs = [record("alpha", 50.0, seed=i) for i in range(3)]
    runs += [record("alpha", 40.0 + i, seed=i, **other) for i in range(2)]
    s = section(*runs, record("beta"), layout="all")
    assert s.rows[-1].cells[1] == Cell() and s.rows[-1].cells[1].text == "–"
    alpha = column(s, 1)["alpha"]
    assert alpha.text == "40.5 ± 0.7 (n=2)"
    assert [s.notes[i - 1] for i in alpha.notes] == ["2 of this row's 3 seeds."]
    assert column(s)["alpha"].notes == ()


def test_different_protocols_are_named_and_not_compared() -> None:
    s = section(record("alpha"), record("beta", 60.0, protocol={"temperature": 0.1, **INPUT}))
    assert not any(c.bold for c in column(s).values())
    assert s.notes == ("Protocols differ in temperature: not comparable, so nothing is bold.",)
    assert (
        section(record("alpha"), record("beta", version="2"))
        .notes[0]
        .startswith("Protocols differ in version")
    )


def test_pool_alone_is_not_another_protocol() -> None:
    s = section(record("alpha", pool="mean"), record("beta"))
    assert s.columns[0][1].notes == ()
    assert s.notes == ("Rows differ in features (mean, cls).",)


def test_a_written_protocol_equals_the_one_in_memory() -> None:
    fresh = record("alpha", protocol={"ks": (10, 20), **INPUT})
    stored = record("beta", protocol={"ks": [10, 20], **INPUT})
    (s,) = build([fresh, stored], "frozen", MAIN).sections
    assert s.columns[0][1].notes == ()


def test_newest_protocol_of_a_cell_is_shown() -> None:
    old = record("alpha", 30.0, version="0", date="2025-01-01")
    s = section(old, record("alpha", 50.0))
    assert column(s)["alpha"].mean == 50
    assert s.notes == ("Records of an older protocol exist and are left out.",)


def test_repeated_evaluation_shows_the_newest_and_seeds_are_averaged() -> None:
    forced = [record(value=30.0), record(value=40.0, date="2026-02-01")]
    assert column(section(*forced))["alpha"].text == "40.0"
    s = section(record(value=30.0), record(value=40.0, evaluation_seed=1))
    assert column(s)["alpha"].text == "35.0" and column(s)["alpha"].n == 1
    assert s.notes == ("Each seed averaged over 2 evaluation seeds.",)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"epochs": 300.0}, "Rows differ in epochs (10, 300)."),
        ({"effective_epochs": 40.0}, "Rows differ in effective epochs (10, 40)."),
        ({"tokens": 0.05}, "Rows differ in billion image tokens (–, 0.05)."),
        ({"pretrain_data": "digits"}, "Rows differ in pretraining data (shapes, digits)."),
        ({"arch": "vit_small"}, "Rows differ in arch (vit_tiny, vit_small)."),
    ],
)
def test_unequal_training_is_said(change: dict[str, object], note: str) -> None:
    s = section(record("alpha"), record("beta", **change))
    assert note in s.notes
    assert any(h.notes == (s.notes.index(note) + 1,) for h in s.labels)


def test_compute_is_shown_where_it_is_known() -> None:
    assert "billion image tokens" not in [h.text for h in section(record()).labels]
    s = section(record(tokens=0.004915), record("beta"))
    shown = [h.text for h in s.labels].index("billion image tokens")
    assert [row.labels[shown] for row in s.rows[-2:]] == ["0.004915", "–"]


def test_two_weights_of_one_seed_are_rows_of_their_own() -> None:
    s = section(record(value=40.0, sha256="a" * 64), record(value=60.0, sha256="b" * 64))
    assert [r.labels[-1] for r in s.rows[-2:]] == ["a" * 8, "b" * 8]
    assert any("not averaged" in remark for remark in s.remarks)


def test_recipe_is_shown_where_it_tells_rows_apart() -> None:
    assert "recipe" not in [h.text for h in section(record()).labels]
    s = section(record(), record(recipe="large", value=1.0))
    assert [r.labels[-1] for r in s.rows[-2:]] == ["large", "small"]


def test_datasets_splits_and_fingerprints_are_sections() -> None:
    runs = [
        record(),
        record(dataset="digits", dataset_fingerprint="d1"),
        record(split="val"),
        record(dataset_fingerprint="2"),
    ]
    sections = build(runs, "frozen", MAIN).sections
    assert [(x.dataset, s.split, x.fingerprint) for s in sections for x in s.sources] == [
        ("digits", "test", "d1"),
        ("shapes", "test", "2"),
        ("shapes", "test", "f1"),
        ("shapes", "val", "f1"),
    ]
    assert ["are not comparable" in s.remarks[-1] for s in sections] == [False, True, True, True]


def test_missing_floors_are_said() -> None:
    (s,) = build([record(), FLOORS[0]], "frozen", MAIN).sections
    assert s.remarks[-1] == "Floors not measured here: pixels."
    assert not any("floor" in r for r in section(record()).remarks)


def whole(*more: Result, layout: str = "frozen") -> Section:
    """A full suite of two trained models, one of which has two poolings, and all floors."""
    runs = [*FLOORS, record("alpha"), record("alpha", 45.0, pool="mean"), record("beta", 60.0)]
    runs += [boxes("random-init", 10.0), boxes("alpha", 30.0), boxes("beta", 25.0)]
    runs += [masks("alpha"), masks("random-init", 21.0), masks("all-background", 20.0, arch="none")]
    (only,) = build([*runs, *more], layout, MAIN).sections
    return only


def test_datasets_that_complete_each_other_share_a_section() -> None:
    s = whole()
    assert [(x.dataset, x.fingerprint, x.benchmarks) for x in s.sources] == [
        ("shapes", "f1", ("near",)),
        ("scenes-coco", "c1", ("boxes",)),
        ("scenes-ade20k", "a1", ("masks",)),
    ]
    assert [(h.group, h.text) for _, h in s.columns] == [
        ("near", "k=20 top-1"),
        ("boxes (scenes-coco)", "AP^b"),
        ("masks (scenes-ade20k)", "mIoU"),
    ]
    assert s.source("masks").dataset == "scenes-ade20k"


def test_numbers_without_a_pool_stand_in_every_row_of_their_model() -> None:
    s = whole()
    rows = [(row.key.method, row.key.pool, *(cell.text for cell in row.cells)) for row in s.rows]
    assert rows == [
        ("random-init", "cls", "20.0", "10.0", "21.0"),
        ("pixels", "cls", "15.0", "–", "–"),
        ("all-background", "", "–", "–", "20.0"),
        ("alpha", "cls", "50.0", "30.0", "40.0"),
        ("alpha", "mean", "45.0", "30.0", "40.0"),
        ("beta", "cls", "60.0", "25.0", "–"),
    ]
    said = "boxes and masks: no pooled features, so all rows of a model show the same number"
    assert [r for r in s.remarks if r.startswith(said)]
    assert not [r for r in s.remarks if "floor" in r]
    assert not [r for r in section(record()).remarks if "pooled" in r]


def test_a_model_in_two_rows_is_no_rival_of_itself() -> None:
    bold = {(r.key.method, r.key.pool) for r in whole().rows if r.cells[1].bold}
    assert bold == {("alpha", "cls"), ("alpha", "mean")}
    assert not any(row.cells[2].bold for row in whole().rows)  # alpha alone has masks


def test_seeds_that_a_row_lacks_are_said_for_shared_numbers_too() -> None:
    s = whole(record("beta", 62.0, seed=1))
    cell = s.rows[-1].cells[1]
    assert [s.notes[i - 1] for i in cell.notes] == ["1 of this row's 2 seeds."]


def test_a_model_without_pooled_records_has_a_row_of_its_own() -> None:
    (s,) = build([boxes(), boxes("random-init", 5.0), masks()], "frozen", {}).sections
    assert [(row.key.method, row.key.pool) for row in s.rows] == [
        ("random-init", ""),
        ("alpha", ""),
    ]
    assert [h.group for _, h in s.columns] == ["boxes", "masks (scenes-ade20k)"]
    assert not [r for r in s.remarks if "pool" in r or "floor" in r]  # pixels have no boxes


def test_the_all_background_floor_is_a_floor() -> None:
    (s,) = build(
        [masks(), masks("beta", 19.0), masks("all-background", 41.0)], "all", MAIN
    ).sections
    assert "The floor all-background is better than every trained model." in s.notes
    assert not s.rows[0].cells[0].bold


def names(results: list[Result]) -> list[list[str]]:
    return [[x.dataset for x in s.sources] for s in build(results, "frozen", {}).sections]


def test_rivals_stay_alone_and_nothing_is_given_to_one_of_them() -> None:
    rest = [boxes(), masks()]
    assert names([record(), *rest, record(dataset="digits", dataset_fingerprint="d1")]) == [
        ["digits"],
        ["scenes-coco", "scenes-ade20k"],
        ["shapes"],
    ]
    newer = boxes(dataset_fingerprint="c2")
    assert names([record(), *rest, newer]) == [["scenes-coco"]] * 2 + [["shapes", "scenes-ade20k"]]


def test_pooled_features_of_two_datasets_never_share_a_section() -> None:
    other = record(benchmark="far", dataset="digits", dataset_fingerprint="d1")
    assert names([record(), other]) == [["digits"], ["shapes"]]


def test_versions_of_one_dataset_never_share_a_section() -> None:
    newer = boxes(benchmark="more boxes", dataset_fingerprint="c2")
    sections = build([boxes(), newer], "frozen", {}).sections
    assert len(sections) == 2
    assert all(s.remarks[-1].startswith("This dataset has other splits") for s in sections)


def test_splits_never_share_a_section() -> None:
    sections = build([record(), boxes(split="validation"), boxes()], "frozen", {}).sections
    assert [(len(s.sources), s.split) for s in sections] == [(1, "validation"), (2, "test")]
    assert sections[1].remarks[-1] == (
        "scenes-coco: there are other splits or versions; their numbers are not comparable."
    )


def test_layouts_and_order_of_columns() -> None:
    runs = [record(setting=f"k={k}") for k in (5, 10, 20, 100)] + [record(benchmark="far")]
    assert [c[0][:2] for c in section(*runs).columns] == [("far", "k=20"), ("near", "k=20")]
    names = [c[0].setting for c in section(*runs, layout="all").columns[1:]]
    assert names == ["k=20", "k=5", "k=10", "k=100"]
    with pytest.raises(UserError, match="did you mean 'frozen'"):
        build([], "frosen")


def test_main_column_without_any_record_is_blank() -> None:
    (s,) = build([record(setting="k=5")], "frozen", MAIN).sections
    assert [c.text for c in s.rows[0].cells] == ["–"]


def test_conventions_are_asked_from_the_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    class Near(Benchmark):
        main = (("k=20", "top-1"),)
        directions = {"top-1": "higher"}

    monkeypatch.setattr("sslbench.plugins.available", lambda _: {"near": None, "unused": None})
    monkeypatch.setattr("sslbench.plugins.load", lambda _, name: {"near": Near}[name])
    (near,) = installed_conventions(["near", "not installed"]).values()
    assert near.main == Near.main and near.direction("k=20", "top-1") == HIGHER
    assert len(build([record(), record(setting="k=5")]).sections[0].columns) == 1


def test_fractions_keep_three_decimals() -> None:
    s = section(record(benchmark="far", value=0.4567))
    assert column(s)["alpha"].text == "0.457"


def test_a_value_that_is_not_finite_is_shown_and_never_best() -> None:
    nans = [record("alpha", v, seed=i) for i, v in enumerate((float("nan"), 90.0))]
    s = section(*nans, record("beta", 30.0), record("gamma", 20.0))
    cells = column(s)
    assert (
        cells["alpha"].text == "nan ± nan (n=2)" and cells["beta"].bold and not cells["alpha"].bold
    )


def test_no_records_no_sections() -> None:
    assert build([], "frozen", MAIN).sections == ()


runs = st.builds(
    record,
    method=st.sampled_from(["alpha", "beta", "random-init", "pixels"]),
    value=st.floats(0, 100),
    seed=st.sampled_from([None, 0, 1, 2]),
    evaluation_seed=st.integers(0, 1),
    pool=st.sampled_from(["cls", "mean"]),
    setting=st.sampled_from(["k=5", "k=20"]),
    version=st.sampled_from(["1", "2"]),
    epochs=st.sampled_from([10.0, 20.0]),
    dataset_fingerprint=st.sampled_from(["f1", "f2"]),
    date=st.dates().map(str),
)
scenes = st.builds(
    boxes,
    method=st.sampled_from(["alpha", "beta", "random-init", "all-background"]),
    value=st.floats(0, 100),
    seed=st.sampled_from([None, 0, 1]),
    dataset=st.sampled_from(["shapes", "scenes-coco"]),
    dataset_fingerprint=st.sampled_from(["f1", "c1"]),
    date=st.dates().map(str),
)


@given(st.lists(runs | scenes, unique_by=lambda r: r.date), st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(results: list[Result], rng: random.Random) -> None:
    shuffled = rng.sample(results, len(results))
    for layout in ("frozen", "all"):
        ordered = sorted(results, key=lambda r: r.date)
        assert build(shuffled, layout, MAIN) == build(ordered, layout, MAIN)


def test_columns_that_differ_in_a_decimal_come_by_value_whatever_the_order_of_records() -> None:
    settings = [f"1% logreg, lambda={x}" for x in ("0.01", "0.1", "1", "10")]
    records = [record(setting=setting) for setting in settings]
    known = {"near": Conventions()}
    for order in permutations(records):
        (section,) = build(order, "all", known).sections
        assert [column.setting for column, _ in section.columns] == settings
