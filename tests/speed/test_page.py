"""docs/speed.md is what the records say, and a race is timed as it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.speed.page import PAGE, page, table_of_growth, table_of_memory
from tests.speed.race import Outcome, Race, run


def test_the_page_is_what_its_records_give() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.speed.page`"


def test_a_row_has_the_median_of_the_rounds_ratios(tmp_path: Path) -> None:
    folder = tmp_path / "some-cpu"
    folder.mkdir()
    record = {
        "work": "a | b",
        "same": "",
        "wanted": {"peer": 1.5},
        "cpu_seconds": {"sslbench": [1.0, 2.0, 1.0], "peer": [2.0, 3.0, 4.0], "other": [1.0] * 3},
        "notes": {"GFLOP": 12.3456},
        "peaks_gflops": {"fp32": 100.0, "bf16": 250.0},
        "hardware": "Some CPU",
    }
    (folder / "work.json").write_text(json.dumps(record))
    text = page(tmp_path)
    assert "## Some CPU (some-cpu)" in text and "a ratio of 2.5" in text
    assert "| work | a / b; GFLOP: 12.35 | 1 | peer | 2.00 (1.50 to 4.00) | 1.5 | – |" in text
    assert "| other | 1.00 (0.50 to 1.00) | – | – |" in text


def test_rounds_are_interleaved_and_the_first_is_not_counted() -> None:
    calls: list[str] = []
    race = Race("r", "work", lambda: calls.append("ours"), {"peer": lambda: calls.append("peer")})
    outcome = run(race, rounds=3)
    assert calls == ["peer", "ours"] * 4
    assert len(outcome.ours) == len(outcome.rivals["peer"]) == 3


def test_the_ratio_is_theirs_to_ours() -> None:
    outcome = Outcome([1.0, 2.0, 4.0], {"peer": [2.0, 6.0, 4.0]})
    assert outcome.ratios("peer") == [2.0, 3.0, 1.0]
    assert outcome.ratio("peer") == pytest.approx(2.0)


def test_memory_has_its_share_of_the_other_side() -> None:
    record = {
        "work": "3 steps",
        "against": "peer",
        "wanted": {"ours": 0.5},
        "mebibytes": {"ours": {"before": 100, "peak": 400}, "peer": {"before": 200, "peak": 800}},
    }
    sentence, *_, ours, _, _ = table_of_memory(record)
    assert "of ours, at most 0.5 of peer is wanted" in sentence
    assert ours == "| ours | 100 | 400 | 0.50 | 300 | 0.50 |"


def test_growth_has_its_exponent_beside_that_of_the_algorithm() -> None:
    row = {"what": "sort, numbers", "sizes": [1000, 2000], "seconds": [0.12345, 0.5]}
    row |= {"mebibytes": [8.1, 16.2], "exponent": 2.018, "order": 1}
    *_, line, _ = table_of_growth({"parts": {"sort": row}})
    assert line == "| sort, numbers | 1,000 / 2,000 | 0.123 / 0.5 | 2.02 | 1 | 8 / 16 |"
