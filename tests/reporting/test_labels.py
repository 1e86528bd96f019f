"""Rows are told apart by what differs, and runs that are no repetitions are never averaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sslbench.errors import UserError
from sslbench.reporting.labels import UNKNOWN_SETTINGS, field_of
from sslbench.reporting.parameters import parameters_of
from sslbench.reporting.rendering import FORMATS
from sslbench.reporting.section import Section
from sslbench.reporting.table import NO_INPUT, build
from sslbench.reporting.views import View
from sslbench.result import Result

from .records import record

FLOORS = [record("random-init", 20.0), record("pixels", 15.0, arch="none")]
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def section(*results: Result, **view: Any) -> Section:
    (only,) = build([*FLOORS, *results], View(**view), {}).sections
    return only


def shown(s: Section) -> list[dict[str, str]]:
    """The label cells of trained rows by heading."""
    heads = [h.text for h in s.labels]
    return [dict(zip(heads, row.labels, strict=True)) for row in s.rows[2:]]


def foreign(sha256: str, source: str, value: float = 50.0, **changes: Any) -> Result:
    """A record of somebody's checkpoint of which nothing is known."""
    card = {"recipe": "", "pretrain_data": "", "epochs": 0.0, "effective_epochs": 0.0, "steps": 0}
    return record("unknown", value, sha256=sha256, source=source, seed=None, **card, **changes)


def test_t2_runs_of_other_settings_are_no_seeds_of_each_other() -> None:
    first = record(value=36.7, seed=0, recipe_digest="d1", settings={"optim.lr": 0.001})
    other = record(value=42.5, seed=1, recipe_digest="d2", settings={"optim.lr": 0.1})
    s = section(first, other)
    assert sorted(row.cells[0].text for row in s.rows[2:]) == ["36.7", "42.5"]
    assert {row["settings"] for row in shown(s)} == {"optim.lr=0.001", "optim.lr=0.1"}


def test_t2_settings_are_named_even_where_epochs_tell_rows_apart() -> None:
    long = {"optim.lr": 0.1, "train.epochs": 20}
    s = section(
        record(recipe_digest="d1"), record(seed=1, epochs=20.0, recipe_digest="d2", settings=long)
    )
    assert [row["settings"] for row in shown(s)] == ["–", "optim.lr=0.1, train.epochs=20"]


def test_t2_many_settings_are_a_footnote() -> None:
    settings = {"optim.lr": 0.1, "method.lam": 0, "data.crops": [2, 10]}
    s = section(record(recipe_digest="d1"), record(seed=1, recipe_digest="d2", settings=settings))
    assert [row["settings"] for row in shown(s)] == [
        "–",
        "data.crops=[2, 10], method.lam=0, 1 more",
    ]
    (note,) = s.rows[-1].notes
    assert s.notes[note - 1] == "Settings: data.crops=[2, 10], method.lam=0, optim.lr=0.1."


def test_t2_seeds_of_one_digest_are_averaged_and_older_records_with_a_footnote() -> None:
    known = section(*(record(value=50.0 + n, seed=n, recipe_digest="d1") for n in range(3)))
    assert known.rows[-1].cells[0].text == "51.0 ± 1.0 (n=3)" and known.notes == ()
    older = section(*(record(value=50.0 + n, seed=n) for n in range(3)))
    assert older.rows[-1].cells[0].n == 3 and older.notes == (UNKNOWN_SETTINGS,)
    assert older.rows[-1].notes == (1,)
    difference_notes = section(record(seed=0), record(seed=1, recipe_digest="d1"))
    assert [row.cells[0].n for row in difference_notes.rows[2:]] == [1, 1]


@pytest.mark.parametrize("seeds", [(0, 1), (None, 1), (None, None)])
def test_weights_of_unknown_training_are_never_averaged(seeds: tuple[int | None, ...]) -> None:
    cards = [{"sha256": letter * 64, "seed": s} for letter, s in zip("ab", seeds, strict=True)]
    s = section(*(record(value=40.0 + n, recipe="", **c) for n, c in enumerate(cards)))
    assert [row.cells[0].n for row in s.rows[2:]] == [1, 1]


def test_t2_trainings_on_other_data_of_one_name_are_told_apart() -> None:
    runs = [record(value=50.0 + n, seed=n % 2, sha256=f"{n}" * 64, recipe_digest=f"d{n // 2}")
            for n in range(4)]  # fmt: skip
    s = section(*runs)
    assert [(row["recipe digest"]) for row in shown(s)] == ["d0", "d1"]
    assert [row.cells[0].n for row in s.rows[2:]] == [2, 2]


def test_t4_a_method_told_by_the_file_name_is_marked() -> None:
    s = section(record(identified="file name"), record("beta", identified="hash"))
    by_method = {row.key.method: [s.notes[i - 1] for i in row.notes] for row in s.rows}
    assert by_method["alpha"] == [
        "Method, data and epochs are derived from its file name, not verified."
    ]
    assert by_method["beta"] == []


def test_t4_what_is_learnt_later_counts() -> None:
    later = record(setting="k=5", identified="hash", date="2026-02-01")
    s = section(record(identified="file name"), later)
    assert s.rows[-1].notes == ()


def test_t3_one_column_may_hold_inputs_of_several_kinds() -> None:
    s = section(record(value=60.0), record("beta", 70.0, protocol={"temperature": 0.07, **HALF}))
    assert not any("Protocols differ" in note for note in s.notes)


def test_t3_the_same_weights_under_two_inputs_are_two_rows() -> None:
    other = record(value=9.0, protocol={"temperature": 0.07, **HALF}, date="2026-02-01")
    s = section(record(value=60.0), other)
    assert sorted(row.cells[0].text for row in s.rows[2:]) == ["60.0", "9.0"]
    assert {row["input"] for row in shown(s)} == {"mean 0.5, std 0.25", "mean 0.5, std 0.5"}
    assert s.notes == ()  # nothing is superseded


def test_t3_older_records_say_that_they_do_not_say_it() -> None:
    older = record("beta", protocol={"temperature": 0.07})
    s = section(record(), older)
    (cell,) = (row.cells[0] for row in s.rows if row.key.method == "beta")
    assert [s.notes[i - 1] for i in cell.notes] == [NO_INPUT]
    s = section(record(setting="k=5"), record(protocol={"temperature": 0.07}))
    assert len(shown(s)) == 1  # of weights known under one input alone


def test_r3_foreign_checkpoints_are_told_apart_by_their_paths() -> None:
    a = foreign("a" * 64, "/data/moco/run/checkpoint.pth")
    b = foreign("b" * 64, "/data/simclr/run/checkpoint.pth")
    s = section(a, b, record())
    assert {row["source"] for row in shown(s)} == {
        "–", "moco/run/checkpoint.pth", "simclr/run/checkpoint.pth",
    }  # fmt: skip
    options = [
        foreign(x * 64, f"ckpt.pth?key={k}") for x, k in (("a", "teacher"), ("b", "student"))
    ]
    assert {row["source"] for row in shown(section(*options))} == {
        "ckpt.pth?key=teacher", "ckpt.pth?key=student",
    }  # fmt: skip


def test_r3_the_users_name_comes_first() -> None:
    s = section(
        foreign("a" * 64, "x/c.pth", label="MoCo"), foreign("b" * 64, "y/c.pth", label="Ours")
    )
    assert [row.labels[0] for row in s.rows] == ["random-init", "pixels", "MoCo", "Ours"]
    assert [h.text for h in s.labels] == ["model"]  # "unknown" says nothing beside the names
    s = section(record(label="Ours"))
    assert shown(s) == [{"model": "Ours", "method": "alpha"}]
    newer = record(label="Renamed", setting="k=5", date="2026-02-01")
    assert shown(section(record(label="Ours"), newer))[0]["model"] == "Renamed"


def test_r3_dead_and_constant_columns_are_said_once() -> None:
    s = section(record(), record("beta"))
    assert [h.text for h in s.labels] == ["method"]
    assert s.constants == (
        "arch vit_tiny", "pretraining data shapes", "epochs 10", "features cls",
    )  # fmt: skip
    s = section(record(), record("beta", arch="vit_small"))
    assert [h.text for h in s.labels] == ["method", "arch"]


def test_no_private_path_is_shown() -> None:
    private = "/home/jane/secret/birds/train"
    built = build([record(pretrain_data=private, dataset=private)], "all", {})
    (s,) = built.sections
    assert s.constants[1] == "pretraining data birds"
    assert s.source("near").dataset == "birds"
    assert not [form for form, (_, render) in FORMATS.items() if "jane" in render(built)]


def test_parameters_are_told_by_the_architecture() -> None:
    """Counted with `build_backbone`, without positions."""
    counts = {"ViT-S/16": 21590016, "ViT-B/16": 85647360, "Swin-T/7": 27519354, "none": 0}
    assert {arch: parameters_of(arch) for arch in counts} == counts
    s = section(record(arch="ViT-S/16"), labels=("method", "parameters"))
    assert [row.labels for row in s.rows][-1] == ("alpha", "21.6")


def test_label_columns_are_asked_for_by_field_or_heading() -> None:
    names = ("effective_epochs", "Effective epochs", "data", "pretraining data", "parameters (M)")
    assert [field_of(n) for n in names] == [
        "effective_epochs", "effective_epochs", "pretrain_data", "pretrain_data", "parameters",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"unknown label column 'epoch'.*did you mean 'epochs'"):
        field_of("epoch")


def test_r2_seeds_on_equal_data_of_other_names_are_one_row() -> None:
    """Two machines keep the same images in folders of other names."""
    runs = [
        record(value=50.0 + n, seed=n, recipe_digest="d", data_fingerprint="same",
               pretrain_data=name, date=f"2026-01-0{n + 1}T00:00:00+00:00")
        for n, name in enumerate(("mine", "yours"))
    ]  # fmt: skip
    (row,) = section(*runs).rows[2:]
    assert row.cells[0].n == 2 and row.key.pretrain_data == "yours"
    other = replace(runs[1], model=replace(runs[1].model, data_fingerprint="other"))
    assert {r.key.pretrain_data for r in section(runs[0], other).rows[2:]} == {"mine", "yours"}


def test_r3_floors_of_different_sizes_are_told_apart_by_their_sources() -> None:
    sizes = [record("pixels", 90.0, sha256=s, source=s) for s in ("pixels:32", "pixels:48")]
    found = shown(section(*sizes, record("alpha", 50.0, source="runs/alpha")))
    assert [row["source"] for row in found] == ["pixels:32", "pixels:48", "alpha"]


def test_models_of_no_method_are_called_by_their_names_alone() -> None:
    named = [record("", 50.0, label=name, sha256=name) for name in ("mine", "theirs")]
    (s,) = build(named, View(), {}).sections
    assert [h.text for h in s.labels] == ["model"] and len(s.rows) == 2
