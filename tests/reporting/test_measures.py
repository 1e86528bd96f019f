"""Which numbers are best, which are as good, and which are none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from sslbench import plugins
from sslbench.reporting.columns import Conventions
from sslbench.reporting.rows import INPUT
from sslbench.reporting.section import Section
from sslbench.reporting.table import build
from sslbench.result import Result

from .records import record

SPREAD = {"72.8": (70.3, 72.8, 75.3), "72.9": (70.3, 72.9, 75.5)}  # 72.8 ± 2.5 and 72.9 ± 2.6


def section(*results: Result, direction: str = "higher") -> Section:
    known = {"near": Conventions(direction=lambda setting, metric: direction)}
    (only,) = build(results, "all", known).sections
    return only


def bold(s: Section) -> list[str]:
    return [row.key.method for row in s.rows if row.cells[0].bold]


def seeds(method: str, values: tuple[float, ...]) -> list[Result]:
    return [record(method, v, seed=i, recipe_digest=method) for i, v in enumerate(values)]


def test_r6_ties_within_the_spread_are_ties() -> None:
    s = section(*seeds("alpha", SPREAD["72.8"]), *seeds("beta", SPREAD["72.9"]))
    assert [row.cells[0].text for row in s.rows] == ["72.8 ± 2.5 (n=3)", "72.9 ± 2.6 (n=3)"]
    assert bold(s) == ["alpha", "beta"]
    assert any("pooled standard deviation" in remark for remark in s.remarks)


@pytest.mark.parametrize(("other", "expected"), [(71.1, True), (70.9, False)])
def test_r6_the_pooled_spread_decides(other: float, expected: bool) -> None:
    """72 ± 1 beside ± 1: pooled 1."""
    s = section(*seeds("alpha", (other - 1, other, other + 1)), *seeds("beta", (71.0, 72.0, 73.0)))
    assert ("alpha" in bold(s)) is expected and "beta" in bold(s)


@pytest.mark.parametrize(("other", "expected"), [(69.1, True), (68.9, False)])
def test_r6_one_seed_each_ties_within_the_interval(other: float, expected: bool) -> None:
    s = section(record("alpha", other), record("beta", 70.0, interval=(69.0, 71.0)))
    assert ("alpha" in bold(s)) is expected
    assert bold(section(record("alpha", 69.9), record("beta", 70.0))) == ["beta"]


def test_r5_less_is_better_where_it_is() -> None:
    s = section(record("alpha", 5.0), record("beta", 3.0), direction="lower")
    assert bold(s) == ["beta"]
    floored = section(record("random-init", 1.0), record("alpha", 5.0), direction="lower")
    assert "The floor random-init is better than every trained model." in floored.notes


@pytest.mark.parametrize("direction", ["", "sideways"])
def test_r5_without_a_direction_nothing_is_ranked(direction: str) -> None:
    s = section(
        record("random-init", 99.0), record("alpha", 5.0), record("beta", 3.0), direction=direction
    )
    assert bold(s) == [] and s.notes == ()
    (unknown,) = build([record("alpha", 5.0), record("beta", 3.0)], "all", {}).sections
    assert bold(unknown) == []


def test_r5_every_main_metric_of_ours_has_a_direction() -> None:
    for name in plugins.available(plugins.BENCHMARKS):
        kind = plugins.load(plugins.BENCHMARKS, name)
        assert {kind.direction(*pair) for pair in kind.main} <= {"higher", "lower"}, name
        assert set(kind.headings) <= set(kind.main)
    linear = plugins.load(plugins.BENCHMARKS, "linear")
    clustering = plugins.load(plugins.BENCHMARKS, "clustering")
    assert linear.direction("best of 45 lr", "lr") == ""
    assert clustering.direction("k-means", "NMI") == "higher"
    assert clustering.direction("k-means, sd of 5 starts", "NMI") == ""


def test_t14_a_missing_number_is_blank_with_its_reason() -> None:
    reason = "1% is the same images as 10%."
    s = section(
        record("alpha", math.nan, missing=reason), record("beta", 3.0), record("gamma", 2.0)
    )
    cell = s.rows[0].cells[0]
    assert (cell.text, cell.mean, cell.n, cell.bold) == ("–", None, 0, False)
    assert [s.notes[i - 1] for i in cell.notes] == [reason]
    assert bold(s) == ["beta"]


def test_t14_seeds_without_a_number_never_enter_a_mean() -> None:
    runs = seeds("alpha", (50.0, 52.0))
    gone = record("alpha", math.nan, seed=2, recipe_digest="alpha", missing="No labels.")
    s = section(*runs, gone)
    cell = s.rows[0].cells[0]
    assert cell.text == "51.0 ± 1.4 (n=2)"
    assert [s.notes[i - 1] for i in cell.notes] == ["No labels.", "2 of this row's 3 seeds."]


def read_as(reading: str, result: Result, **changes: Any) -> Result:
    protocol = {**result.protocol, "backbone": reading}
    return replace(result, protocol=protocol, **changes)


def test_how_a_model_is_read_is_no_difference_between_protocols() -> None:
    """Two architectures and the pixels, which have none, were measured in one way."""
    s = section(
        record("pixels", 20.0, arch="none"),
        read_as("vit_small/16@224 eps 1e-06", record("alpha", 70.0)),
        read_as("vit_base/16@224 eps 1e-06", record("beta", 72.0, arch="ViT-B/16")),
    )
    assert not [note for note in s.notes if "Protocols differ" in note]
    assert bold(s) == ["beta"]


def test_a_record_of_an_older_version_is_no_second_evaluation() -> None:
    """The same weights, recorded before mean, std and reading were: the newest counts alone."""
    old = record("alpha", 60.0)
    plain = {k: v for k, v in old.protocol.items() if k not in INPUT}
    old = replace(old, protocol=plain, date="2026-01-01T00:00:00+00:00")
    new = read_as("vit_small/16@224 eps 1e-06", record("alpha", 70.0), date="2026-02-01T00:00:00")
    s = section(old, new)
    assert [row.cells[0].text for row in s.rows] == ["70.0"]
    assert not [note for note in s.notes if "evaluation seeds" in note]
    assert "Records of an older protocol exist and are left out." in s.notes


def test_a_floor_of_the_data_alone_is_one_beside_two_architectures() -> None:
    floor = record("all-background", 7.8, arch="none")
    s = section(
        read_as("vit_nano/8@64", floor, date="2026-01-01T00:00:00"),
        read_as("swin_nano/4@128", floor, date="2026-02-01T00:00:00"),
        record("alpha", 9.0),
    )
    assert [row.cells[0].text for row in s.rows] == ["7.8", "9.0"]
    assert not [note for note in s.notes if "older protocol" in note]


def shown(*values: float) -> list[str]:
    return [row.cells[0].value for row in section(*map(record, "abcdef", values)).rows]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((72.84, 0.0002, 0.04), ["72.8", "0.0002", "0.04"]),  # no 0.0 where there is none
        ((0.00031, 0.00034), ["0.000310", "0.000340"]),
        ((0.5, 0.123456), ["0.500", "0.123"]),
        ((50.0, -1e-14, 0.0), ["50.0", "0.0", "0.0"]),
        ((-0.0002, -30.0), ["-0.0002", "-30.0"]),
        ((1e99, 50.0, -123456789012.0), ["1e+99", "50.0", "-1.23e+11"]),
        ((3e-10, 2e-11), ["3e-10", "2e-11"]),
    ],
)
def test_no_number_is_shown_as_another(values: tuple[float, ...], texts: list[str]) -> None:
    assert shown(*values) == texts


def test_what_is_shown_unequal_is_no_tie() -> None:
    s = section(record("alpha", 0.00031), record("beta", 0.00034), direction="lower")
    assert bold(s) == ["alpha"]


def test_a_floor_below_models_is_better_where_less_is() -> None:
    results = [record("pixels", 1.0), record("alpha", 1.5), record("beta", 2.0)]
    s = section(*results, direction="lower")
    assert "The floor pixels is better than every trained model." in s.notes
