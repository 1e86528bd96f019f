"""Records as a user of Python has them."""

from __future__ import annotations

import sys
from dataclasses import asdict

import pytest

from sslbench.errors import UserError
from sslbench.reporting.records import Records, load_records
from sslbench.reporting.rendering import RECORDS, table
from sslbench.reporting.store import Store
from tests.reporting.records import boxes, record


@pytest.fixture
def results():
    return [record(seed=seed, value=50.0 + seed) for seed in range(3)] + [
        record("pixels", 20.0, interval=(15.0, 26.0)),
        boxes(missing="it was cancelled", value=float("nan")),
    ]


@pytest.fixture
def folder(results, tmp_path):
    Store(tmp_path / RECORDS).append(results)
    return tmp_path


def test_they_are_read_from_a_folder_or_a_file_in_order(folder, results) -> None:
    for place in (folder, str(folder), folder / RECORDS):
        loaded = load_records(place)
        assert list(loaded)[:-1] == results[:-1] and loaded[-1].missing == results[-1].missing
    assert isinstance(loaded[1:3], Records) and loaded[-2].value == 20.0


def test_a_place_without_records_is_one_sentence(tmp_path) -> None:
    for place in (tmp_path, tmp_path / "x.jsonl"):
        with pytest.raises(
            UserError, match=r"does not exist; give the folder .* or a \.jsonl file"
        ):
            load_records(place)


@pytest.mark.parametrize("style", ["md", "latex", "csv"])
@pytest.mark.parametrize("layout", ["frozen", "all"])
def test_their_table_is_that_of_the_command(folder, style, layout) -> None:
    assert load_records(folder).table(layout, style) == table(folder, layout, style)


def test_a_table_can_be_changed_and_refuses_what_it_does_not_know(results) -> None:
    records = Records(results)
    narrow = records.table(rows=("alpha",), columns=("near",), caption="Mine.")
    assert "alpha" in narrow and "pixels" not in narrow
    for wrong in ({"format": "html"}, {"layout": "wide"}, {"columns": ("far",)}):
        with pytest.raises(UserError):
            records.table(**wrong)


def test_a_notebook_shows_them_as_a_table(results) -> None:
    records = Records(results)
    assert records._repr_markdown_() == records.table()._repr_markdown_() == str(records.table())
    assert repr(records).startswith("5 records\n\n") and "alpha" in repr(records)
    assert repr(Records()).startswith("0 records")


def test_a_frame_has_a_row_per_record_and_every_field(results) -> None:
    frame = Records(results).to_frame()
    assert len(frame) == 5 and frame["value"].isna().tolist() == [False] * 4 + [True]
    assert frame["model.seed"].tolist()[:3] == [0, 1, 2]
    assert frame["interval.low"].tolist()[3] == 15.0 and frame["interval.high"].tolist()[3] == 26.0
    fields = {*asdict(results[0])} - {"model", "interval"}
    assert {*frame.columns} == {
        *fields,
        *(f"model.{name}" for name in asdict(results[0].model)),
        "interval.low",
        "interval.high",
    }
    assert frame.groupby("model.method")["value"].mean()["alpha"] == 51.0


def test_without_pandas_a_frame_says_how_to_get_it(results, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install 'sslbench\[frames\]'"):
        Records(results).to_frame()
