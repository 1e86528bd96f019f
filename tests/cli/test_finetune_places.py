"""A fine-tuning from and to folders whose names need care, and a smoke test of it."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cli.test_finetune_refusals import CONFIGS

SMALL = "budget = dict(images=0)\ntrain = dict(batch_size=4, epochs=1.0)\nrun = dict(workers=0)\n"


@pytest.mark.slow
def test_spaces_umlauts_home_and_relative_paths(
    sslbench, tmp_path, monkeypatch, labelled, dino_run
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "zu Hause"))
    shutil.copytree(labelled, tmp_path / "zu Hause" / "Schöne Bilder")
    shutil.copytree(dino_run, tmp_path / "mein Läufer")
    config = tmp_path / "finetune" / "kurz & gut.py"
    config.parent.mkdir()
    config.write_text(f"_base_ = {str(CONFIGS / 'folder_cls.py')!r}\n{SMALL}")
    ended = sslbench(
        "evaluate", "--benchmark", "finetune", "--model", "mein Läufer", "--limit", 10,
        "--data", "~/Schöne Bilder", "--out", "Ergebnisse für mich",
        "--config", "finetune/kurz & gut.py",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    lines = (tmp_path / "Ergebnisse für mich" / "records.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    (dataset,) = {record["dataset"] for record in records}
    assert dataset == "Schöne Bilder (10 images per split)"
    best = next(r for r in records if (r["setting"], r["metric"]) == ("best epoch", "top1"))
    assert best["n"] == 10 and best["protocol"]["config"] == "finetune/kurz & gut.py"
    runs = [*(tmp_path / "runs" / "evaluate").iterdir()]  # of the model and of fresh weights
    assert len(runs) == 2 and all((run / "weights.safetensors").is_file() for run in runs)
