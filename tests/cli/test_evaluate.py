"""`evaluate` and `table` as people type them."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint

import pytest

from sslbench import plugins
from sslbench.cli.evaluate import reference_benchmarks
from sslbench.data.dense import DenseData
from sslbench.errors import UserError
from sslbench.evaluation import opening
from tests.cli.ended import assert_one_sentence, files
from tests.evaluation.fakes import dense

STYLES = ("md", "latex", "csv")


@pytest.mark.parametrize("style", STYLES)
def test_published_figures_are_shown_without_records(sslbench, tmp_path, style) -> None:
    shown = sslbench("table", "--published", "--out", "nowhere", "--format", style)
    assert shown.code == 0 and "75.2" in shown.out and "iBOT" in shown.out
    assert "arXiv:2111.07832" in shown.out and "Table 1" in shown.out
    assert_one_sentence(sslbench("table", "--published", "--format", "mdd"), "did you mean 'md'")
    assert files(tmp_path) == []


def test_models_are_evaluated_and_tabled(sslbench, tmp_path, places) -> None:
    given = ("--model", places["run"], "--data", places["labelled"], "--out", "out")
    ended = sslbench("evaluate", "--benchmark", "knn", *given)
    assert ended.code == 0, ended.err
    assert {"records.jsonl", "table.md", "table.tex", "table.csv"} == {
        p.name for p in (tmp_path / "out").iterdir()
    }
    tables = {style: sslbench("table", "--out", "out", "--format", style) for style in STYLES}
    assert all(table.code == 0 and "dino" in table.out.lower() for table in tables.values())
    records = (tmp_path / "out" / "records.jsonl").read_bytes()
    assert sslbench("evaluate", "--benchmark", "knn", *given).code == 0
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == records


def test_a_table_for_a_paper_is_one_command(sslbench, tmp_path, places) -> None:
    given = ("--model", places["run"], "--data", places["labelled"], "--out", "out")
    assert sslbench("evaluate", "--benchmark", "knn", *given).code == 0
    asked = ("--columns", "knn k=20 top1", "--rows", "dino", "--labels", "method, arch")
    names = ("--name", "dino=Ours", "--name", "k-NN=kNN", "--caption", "A & B", "--label", "tab:x")
    shown = sslbench("table", "--out", "out", *asked, *names, "--format", "latex").out
    assert r"\caption{A \& B}" in shown and r"\label{tab:x}" in shown
    assert "method & arch & " in shown and "{kNN}" in shown
    assert "Ours & ViT-" in shown and "pixels" not in shown
    for option in ("--columns", "--rows", "--labels", "--name", "--layout"):
        assert_one_sentence(sslbench("table", "--out", "out", option, "nothing"), "nothing")
    assert "pixels" in (tmp_path / "out" / "table.md").read_text()  # the files hold all


@pytest.fixture
def boxes(monkeypatch) -> None:
    """A benchmark of the kind "coco" is installed, and any folder but nowhere is opened."""
    available = plugins.available
    entry = EntryPoint("boxes", "tests.evaluation.fakes:Boxes", plugins.BENCHMARKS)

    def with_boxes(group: str) -> dict[str, EntryPoint]:
        return {**available(group), **({"boxes": entry} if group == plugins.BENCHMARKS else {})}

    def opened(kind: str, source: str, split: str) -> DenseData:
        if source == "nowhere":
            raise UserError("The folder nowhere does not exist.")
        return dense(kind, split=split)

    monkeypatch.setattr(plugins, "available", with_boxes)
    monkeypatch.setattr(opening, "open_dense", opened)


def test_a_benchmark_of_scenes_needs_a_folder(sslbench, tmp_path, places, boxes) -> None:
    given = ("evaluate", "--model", places["run"], "--data", places["labelled"], "--out", "out")
    sentence = "boxes: no coco data is given; name its folder with --coco DIR."
    assert_one_sentence(sslbench(*given, "--benchmark", "boxes"), re.escape(sentence))
    assert_one_sentence(sslbench(*given, "--benchmark", "boxes", "--coco", "nowhere"), "nowhere")
    assert files(tmp_path) == []
    both = sslbench(*given, "--benchmark", "boxes", "--benchmark", "knn")
    assert both.code == 0, both.err
    assert f"left out: {sentence}" in both.out.splitlines() and "| dino |" in both.out


def test_scenes_alone_are_evaluated(sslbench, tmp_path, places, boxes) -> None:
    given = ("evaluate", "--benchmark", "boxes", "--model", places["run"], "--out", "out")
    (tmp_path / "mine").mkdir()
    ended = sslbench(*given, "--coco", "mine", "--jobs", 3)
    assert ended.code == 0, ended.err
    assert "1/3 boxes on pixels" in ended.out
    assert "boxes on dino ViT-Nano/8 seed 0: AP^b 31.2" in ended.out
    again = sslbench(*given, "--coco", "mine")
    assert again.code == 0 and "1/3" not in again.out
    assert again.out.endswith(ended.out[ended.out.index("###") :])


def test_the_reference_runs_are_segmented_by_the_linear_layer_alone() -> None:
    found = {(benchmark.name, benchmark.variant) for benchmark in reference_benchmarks()}
    assert {variant for name, variant in found if name == "segmentation"} == {"linear"}
    assert {"knn", "linear", "finetune"} <= {name for name, _ in found}
    assert "detection" not in {name for name, _ in found}
