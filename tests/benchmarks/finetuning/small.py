"""A folder of four classes and a fine-tuning of six steps on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sslbench.benchmark import Splits
from sslbench.benchmarks.finetuning.job import write_plan
from sslbench.benchmarks.finetuning.recipes import recipe_for
from sslbench.checkpoints.load import load_backbone
from sslbench.evaluation.opening import open_splits
from sslbench.recipes.recipe import Recipe
from tests.pictures import write_images

MODEL = "random-init:vit_nano/8@32?seed=1"
VALUES: dict[str, Any] = {
    "name": "finetune/small",
    "method": {"name": "supervised", "mix_group": 2, "head_scale": 1.0, "views": {}},
    "backbone": {"drop_path": 0.2},
    "optim": {"lr": 1e-3, "scale_lr": False, "warmup_epochs": 0.5, "layer_decay": 0.75},
    "train": {"epochs": 3.0, "batch_size": 8, "precision": "fp32"},
    "run": {"workers": 0, "threads": 1, "log_every": 1, "save_every": 1},
}


def folder_of_classes(root: Path, train: int = 5, test: int = 6) -> Splits:
    for split, count in (("train", train), ("test", test)):
        for k in range(4):
            write_images(root / split / f"class{k}", count, seed=10 * k + (split == "test"))
    return open_splits(str(root), "test")


def small_recipe(data: Splits, **train: Any) -> Recipe:
    values = {**VALUES, "train": VALUES["train"] | train}
    return recipe_for(values, load_backbone(MODEL), data, seed=0)


def planned(folder: Path, data: Splits, **train: Any) -> Path:
    """`folder` with a plan to be trained."""
    folder.mkdir()
    write_plan(small_recipe(data, **train), data, 1, folder)
    return folder
