"""A run in memory and on disk: set up from its recipe, begun, saved, resumed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sslbench import plugins
from sslbench.data.dataset import ImageDataset
from sslbench.data.loader import ViewLoader, make_loader
from sslbench.errors import UserError
from sslbench.method import Method, Progress
from sslbench.recipes.identity import kept_settings
from sslbench.recipes.recipe import Recipe
from sslbench.storage import checkpoint, files, layout, weights
from sslbench.system.distributed import World, barrier
from sslbench.system.machine import limit_threads, usable_cores
from sslbench.training.build import build_method, compile_blocks, load_needs, start_method
from sslbench.training.data import open_training
from sslbench.training.export import Trained
from sslbench.training.optim import make_optimizer
from sslbench.training.trackers import check_installed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One training run on one process; `model` is `method` as DDP wraps it."""

    recipe: Recipe
    out: Path
    world: World
    dataset: ImageDataset
    method: Method
    model: nn.Module
    optimizer: torch.optim.AdamW
    total_steps: int
    steps_per_epoch: int
    needs: Mapping[str, str] = field(default_factory=dict)  # name -> hash of the frozen weights
    started_from: dict[str, Any] = field(default_factory=dict)  # what records say of the start
    notes: Sequence[str] = ()  # on what of the start is kept and what is new

    def progress(self, step: int, logged: bool = True) -> Progress:
        return Progress(step, self.total_steps, self.steps_per_epoch, logged)

    def trained(self, steps: int) -> Trained:
        """The method after `steps` steps, as it is exported."""
        data = self.dataset
        return Trained(
            self.recipe,
            self.method,
            steps,
            self.steps_per_epoch,
            data.name,
            data.fingerprint,
            self.started_from,
        )


def set_up(
    recipe: Recipe,
    out: Path,
    world: World,
    group: str = plugins.METHODS,
    dataset: ImageDataset | None = None,
    resume: bool = False,
) -> Run:
    """Everything that a run needs in memory; reads the data, and the weights to start from.

    dataset: instead of the whole one that the recipe names. resume: the run's own checkpoint holds
    its weights, so those it started from are not read.
    """
    check_installed(recipe.run.tracker)
    limit_threads(recipe.run.threads)
    dataset = open_training(recipe.data, dataset)
    total_steps, steps_per_epoch = length(recipe, len(dataset))
    method = build_method(recipe, group)
    started_from, notes = ({}, []) if resume else start_method(method, recipe)
    method = method.to(world.device)
    if recipe.train.compile:
        compile_blocks(method)
    return Run(
        recipe,
        out,
        world,
        dataset,
        method,
        _parallel(method, world),
        make_optimizer(method, recipe.optim),
        total_steps,
        steps_per_epoch,
        {
            name: weights.weights_sha256(module.state_dict())
            for name, module in load_needs(recipe, type(method)).items()
        },
        started_from,
        notes,
    )


def length(recipe: Recipe, images: int) -> tuple[int, int]:
    """Optimiser steps of the whole run and of one epoch, which drops the last incomplete batch."""
    steps_per_epoch = images // recipe.train.batch_size
    return max(1, round(recipe.train.epochs * steps_per_epoch)), steps_per_epoch


def images_each(recipe: Recipe, processes: int, method: type[Method]) -> int:
    """Images per forward pass and process; UserError if the batch cannot be divided so."""
    parts = processes * recipe.train.accumulate
    if recipe.train.batch_size % parts:
        raise UserError(
            f"train.batch_size={recipe.train.batch_size} cannot be shared by {processes} "
            f"processes x {recipe.train.accumulate} accumulation steps; take a multiple of {parts}."
        )
    tie = method.needs_whole_batch(recipe.method)
    if tie and recipe.train.accumulate > 1:
        raise UserError(
            f"train.accumulate={recipe.train.accumulate} does not go with {tie}, which needs the "
            "whole batch at once: set train.accumulate=1 and take more processes or a smaller "
            "train.batch_size, or change that setting."
        )
    images = recipe.train.batch_size // parts
    group, setting = method.stays_together(recipe.method)
    if images % group:
        raise UserError(
            f"train.batch_size={recipe.train.batch_size} leaves {images} images to each of {parts} "
            f"micro-batches, which is no multiple of {setting}; change one of them."
        )
    return images


def rehearse(recipe: Recipe, processes: int, group: str = plugins.METHODS) -> None:
    """Raises the UserError that each of `processes` would raise, once and before they start."""
    run = set_up(recipe, Path(), World(0, 1, torch.device("cpu")), group)
    load_views(replace(run, world=World(0, processes, torch.device("cpu"))), 0)


def _parallel(method: Method, world: World) -> nn.Module:
    if world.size == 1:
        return method
    devices = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(method, device_ids=devices, broadcast_buffers=False)


def load_views(run: Run, start: int) -> ViewLoader:
    """The batches of this process, from step `start` on."""
    recipe, world = run.recipe, run.world
    return make_loader(
        run.dataset,
        run.method.views(recipe.method, recipe.backbone.stride),
        recipe.train.seed,
        images_each(recipe, world.size, type(run.method)),
        run.total_steps,
        mean=recipe.data.mean,
        std=recipe.data.std,
        rank=world.rank,
        world=world.size,
        accumulate=recipe.train.accumulate,
        repeats=recipe.train.repeats,
        start_step=start,
        workers=min(recipe.run.workers, usable_cores()),  # more would compete for the same cores
        device=world.device,
    )


def begin(run: Run, start: int, resume: bool) -> None:
    """Writes a first checkpoint and the recipe and reads them back, to fail now and not later.

    A resumed run has them; only the places of its data and modules may have changed. A run that is
    killed in between leaves a checkpoint, which holds its recipe, or nothing that blocks a new run.
    """
    if run.world.main:
        try:
            if not resume:
                save(run, start)
                checkpoint.load_state(run.out)
            files.save_json(run.out / layout.CONFIG, run.recipe.to_dict())
        except UserError:
            if not resume:  # no run has begun
                files.remove(run.out / layout.STATE)
            raise
    barrier(run.world)


def save(run: Run, step: int) -> None:
    """Writes a checkpoint after `step` steps."""
    state = {
        "step": step,
        "recipe": run.recipe.to_dict(),
        "method": run.method.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "content": run.dataset.fingerprint,
        "data": run.dataset.name,
        "steps_per_epoch": run.steps_per_epoch,
        "needs": run.needs,
        "started_from": run.started_from,
    }
    checkpoint.save_state(run.out, state, kept_settings(run.recipe))


def restore(run: Run) -> int:
    """Loads the newest checkpoint and returns the number of steps done."""
    parts = ("step", "method", "optimizer")
    state = checkpoint.load_state(run.out, kept_settings(run.recipe), parts)
    if "content" not in state:  # older versions identified data by names and sizes
        logger.warning("%s does not say what its data held, so that is not checked.", run.out)
    elif state["content"] != run.dataset.fingerprint:
        raise UserError(
            f"{run.out} was trained on other data than {run.recipe.data.source!r} holds now; "
            "restore the data, name where it is now with --data, or start a new run."
        )
    for name, now in run.needs.items():
        if now != state.get("needs", {}).get(name, now):
            raise UserError(
                f"{run.out} was trained with another {name} than {run.recipe.needs[name]!r} is "
                f"now; name that one with --set needs.{name}=PLACE or start a new run."
            )
    run.started_from.update(state.get("started_from", {}))
    checkpoint.fill(run.out, state, {"method": run.method, "optimizer": run.optimizer})
    return int(state["step"])
