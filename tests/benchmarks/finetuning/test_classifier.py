"""What a fine-tuning recorded of its last epoch is what evaluating its weights gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from sslbench.benchmark import Splits
from sslbench.benchmarks.finetune import LAST, Finetune, epoch_results
from sslbench.benchmarks.finetuning.job import train, write_plan
from sslbench.benchmarks.finetuning.recipes import recipe_for
from sslbench.benchmarks.linear import Linear, LinearProtocol, Probe
from sslbench.checkpoints.convert import convert
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import RunError
from sslbench.evaluation import evaluate
from sslbench.storage.sealed import load_checked_json
from tests.benchmarks.finetuning.small import MODEL, VALUES, folder_of_classes
from tests.benchmarks.test_finetune import Recording

VIEWS = {"test_interpolation": "bilinear", "test_crop_ratio": 0.6}
METHODS = {"cls": {}, "mean without norm": {"token": "mean", "norm": "new"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return folder_of_classes(tmp_path_factory.mktemp("data") / "four", test=25)


@pytest.fixture(scope="module")
def tuned(data: Splits, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """tuned("cls") -> the folder of a fine-tuning that has ended."""

    @cache
    def trained(reads: str) -> Path:
        method = VALUES["method"] | {"views": VIEWS} | METHODS[reads]
        recipe = recipe_for(VALUES | {"method": method}, load_backbone(MODEL), data, 0)
        folder = tmp_path_factory.mktemp("run")
        write_plan(recipe, data, 1, folder)
        train(folder)
        return folder

    return trained


def last_epoch(folder: Path) -> float:
    """The accuracy that the fine-tuning records of its last epoch, in percent."""
    epochs = load_checked_json(folder / "metrics.json")["epochs"]
    records = epoch_results(Finetune(), data_of(4), Recording(), {None: epochs}, {}, "")
    (last,) = [r.value for r in records if (r.setting, r.metric) == (LAST, "top1")]
    return last


def evaluated(place: Path, source: str, out: Path) -> dict[tuple[str, str, str], float]:
    """(setting, pool, metric) -> value of `evaluate --model place --classifier place`."""
    linear = Linear(LinearProtocol(Probe(rates=(0.1,), epochs=1)))
    given = ([str(place)], [linear], {"images": source}, "test", out, False)
    results = evaluate.evaluate(*given, Console(quiet=True), classifier=place)
    return {(r.setting, r.pool, r.metric): r.value for r in results if "classifier" in r.setting}


@pytest.mark.parametrize("reads", METHODS)
def test_a_tuned_run_has_the_accuracy_of_its_last_epoch(
    tuned: Callable[[str], Path], data: Splits, tmp_path: Path, reads: str
) -> None:
    folder = tuned(reads)
    found = evaluated(folder, data.source, tmp_path)
    assert found == {("classifier of the run", reads, "top1"): last_epoch(folder)}


def test_so_has_the_file_that_was_written_of_it_for_timm(
    tuned: Callable[[str], Path], data: Splits, tmp_path: Path
) -> None:
    folder = tuned("mean without norm")
    copy, _ = convert(str(folder), "timm", tmp_path / "copy.pth")
    found = evaluated(copy, data.source, tmp_path)
    setting = "released fine-tuned classifier"
    assert found == {(setting, "mean without norm", "top1"): last_epoch(folder)}


def test_a_classifier_of_other_classes_is_refused(
    tuned: Callable[[str], Path], tmp_path: Path
) -> None:
    """It was named by the user; one that merely comes with a run is left out in silence."""
    folder = tuned("cls")
    others = folder_of_classes(tmp_path / "others", test=2)
    (Path(others.source) / "train" / "class3").rename(tmp_path / "gone")
    (Path(others.source) / "test" / "class3").rename(tmp_path / "gone too")
    with pytest.raises(RunError, match=r"tells 4 classes apart, but .* has 3; give the classifier"):
        evaluated(folder, others.source, tmp_path / "records")
    model = load_backbone(folder)
    assert len(Linear().protocols(model, data_of(3))) == len(model.poolings)
    assert len(Linear().protocols(model, data_of(4))) == len(model.poolings) + 1


def data_of(classes: int) -> Splits:
    return Splits("data", "f", ["a"] * classes, [], [])  # type: ignore[arg-type]


def test_records_from_before_they_had_this_name_are_kept(
    tuned: Callable[[str], Path],
    data: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They called a run's own classifier released; it is not evaluated again."""
    folder = tuned("cls")
    with monkeypatch.context() as before:
        before.setattr("sslbench.checkpoints.load.OF_RUN", "released classifier")
        old = evaluated(folder, data.source, tmp_path)
    records = (tmp_path / "records.jsonl").read_bytes()
    assert list(old) == [("released classifier", "cls", "top1")]
    assert evaluated(folder, data.source, tmp_path) == old
    assert (tmp_path / "records.jsonl").read_bytes() == records
