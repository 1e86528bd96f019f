"""The parts whose growth is measured run, here at small sizes; their record keeps other rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.speed import growth_of_data as data
from tests.speed import growth_of_evaluation as evaluation
from tests.speed import growth_of_parts, memory, records
from tests.speed import growth_of_training as training
from tests.speed.growth import Part

VIEWS = replace(training.SMALL, local_crops=1)
SMALL = {
    "k-NN": lambda: evaluation.votes(50, 5, 3, 4),
    "k-means": lambda: evaluation.clusters(40, 4, 2),
    "logistic regression": lambda: evaluation.regression(40, 4),
    "linear grid": lambda: evaluation.grid(40, 4, 2),
    "features": lambda: evaluation.features(1, 32),
    "iBOT": lambda: training.step(training.ibot(VIEWS), 1),
    "DINO": lambda: training.step(training.dino(VIEWS, 64), 1),
    "multi-crop": lambda: data.crops(16, 1, 64),
    "masks": lambda: data.masks(4, 2),
    "folder": lambda: data.folder(20),
    "folder again": lambda: data.known_folder(20),
    "list": lambda: data.listed(20),
    "table": lambda: data.table(5),
    "store": lambda: data.store(5),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_part_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSLBENCH_HOME", str(tmp_path))
    monkeypatch.setattr(data, "RACY_SECONDS", 0)
    SMALL[name]()()


@pytest.mark.parametrize("name", growth_of_parts.PARTS)
def test_a_part_has_four_sizes_that_grow(name: str) -> None:
    sizes = growth_of_parts.PARTS[name].sizes
    assert len(sizes) >= 4 and sorted(set(sizes)) == list(sizes)


def test_attention_makes_the_order_of_a_side_a_little_more_than_two() -> None:
    assert evaluation.order_of_side("vit_small", (112, 320)) == pytest.approx(2.12, abs=0.05)


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["program", *arguments])
    module.main()


def test_a_part_measured_anew_leaves_the_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {name: Part(name, lambda n: lambda: sum(range(n)), (10**5, 10**6)) for name in "ab"}
    monkeypatch.setattr(growth_of_parts, "PARTS", parts)
    monkeypatch.setattr(records, "RECORDS", tmp_path)
    run(growth_of_parts, monkeypatch, "--rounds", "1", "--dry")
    assert records.kept("growth") == {}
    run(growth_of_parts, monkeypatch, "--rounds", "1", "b")
    first = records.kept("growth")["parts"]
    run(growth_of_parts, monkeypatch, "--rounds", "1", "a")
    both = records.kept("growth")["parts"]
    assert list(first) == ["b"] and list(both) == ["a", "b"] and both["b"] == first["b"]


def test_the_record_of_memory_has_every_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {name: 2**k * 2**20 for k, name in enumerate(memory.SIDES, start=6)}
    sides = {name: lambda size=size: lambda: b"1" * size for name, size in sizes.items()}
    monkeypatch.setattr(memory, "SIDES", sides)
    monkeypatch.setattr(records, "RECORDS", tmp_path)
    run(memory, monkeypatch)
    rows = records.kept("memory")["mebibytes"]
    came = [row["peak"] - row["before"] for row in rows.values()]
    assert list(rows) == list(memory.SIDES)
    assert came == pytest.approx([size / 2**20 for size in sizes.values()], abs=20)
