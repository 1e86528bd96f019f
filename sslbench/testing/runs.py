"""The promises of a method in the real trainer: a run folder, resumed, loaded and evaluated."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.evaluation.features import EvalTransform, extract, silent
from sslbench.recipes.recipe import Recipe
from sslbench.storage.layout import WEIGHTS
from sslbench.storage.weights import read_weights
from sslbench.testing.data import SIDE, splits
from sslbench.testing.one_step import take_step
from sslbench.testing.promises import promise, promised
from sslbench.testing.steps import ALONE, micro_batches
from sslbench.training.run import begin, save, set_up
from sslbench.training.train import pretrain

QUIET = Console(quiet=True)


def check_run(recipe: Recipe, folder: Path) -> None:
    """It trains, resumes after half of its steps to the same weights, and is evaluated."""
    straight, halves = folder / "straight", folder / "halves"
    with promised("the trainer trains the method"):
        pretrain(recipe, straight, ALONE, console=QUIET)
    with promised("the trainer resumes a run of the method"):
        train_first_half(recipe, halves)
        pretrain(recipe, halves, ALONE, resume=True, console=QUIET)
    one, other = (read_weights(place / WEIGHTS)[0] for place in (straight, halves))
    promise(
        one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one),
        "a run that is resumed ends with the weights of one that was not interrupted, bit for bit",
    )
    with promised("the run's backbone loads and can be evaluated"):
        model = load_backbone(straight)
    check_model(model)


def train_first_half(recipe: Recipe, out: Path) -> None:
    """The run after its first step, as an interruption leaves it."""
    out.mkdir()
    run = set_up(recipe, out, ALONE)
    begin(run, 0, resume=False)
    take_step(run, micro_batches(run), 0)
    save(run, 1)


def check_model(model: LoadedModel) -> None:
    """The loaded backbone is in eval mode and gives finite features, each time the same."""
    promise(not model.backbone.training, "the exported backbone loads in eval mode")
    data = splits(train=6, test=6).test
    transform = EvalTransform.of(model, data)
    banks = [
        extract(model.backbone, data, transform, True, torch.device("cpu"), silent_count)
        for _ in range(2)
    ]
    promise(torch.isfinite(banks[0].mean).all(), f"features of images of {SIDE} pixels are finite")
    promise(torch.equal(banks[0].mean, banks[1].mean), "features of the same images are the same")


def silent_count(done: int, total: int) -> None:
    """Reports progress to nobody."""
    silent("", done, total)
