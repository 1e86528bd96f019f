"""The trainer, read from top to bottom: set-up, resume, then the step in plain sight."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import cpu_count
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sslbench import plugins
from sslbench.backbones.build import build_backbone
from sslbench.backbones.load import load_module, needed_identity
from sslbench.config import Recipe
from sslbench.data.dataset import ImageDataset
from sslbench.data.images import open_dataset
from sslbench.data.loader import ViewLoader, make_loader
from sslbench.errors import RunError, UserError
from sslbench.identity import kept_settings
from sslbench.method import Method, Progress, ViewBatch
from sslbench.training import checkpoint
from sslbench.training.distributed import World, barrier
from sslbench.training.health import Health
from sslbench.training.log import RunLog
from sslbench.training.meter import Meter
from sslbench.training.optim import clip_gradients, make_optimizer, set_schedules

logger = logging.getLogger(__name__)
STOP_AFTER = 3  # non-finite steps in a row
ESTIMATE_AFTER = 10  # steps timed before the time left is estimated


@dataclass(frozen=True)
class Run:
    """One training run on one process; `model` is `method` as DDP wraps it."""

    recipe: Recipe
    out: Path
    world: World
    dataset: ImageDataset
    method: Method
    model: nn.Module
    optimizer: torch.optim.Optimizer
    total_steps: int
    steps_per_epoch: int

    def progress(self, step: int) -> Progress:
        return Progress(step, self.total_steps, self.steps_per_epoch)


def pretrain(
    recipe: Recipe,
    out: Path,
    world: World,
    resume: bool = False,
    console: Console | None = None,
    group: str = plugins.METHODS,
) -> Path:
    """Trains `recipe` into the run directory `out` and returns it.

    Raises UserError for a recipe that cannot run and RunError when the run breaks.
    """
    run = set_up(recipe, out, world, group)
    if resume and world.main:
        checkpoint.remove_leftovers(out)
    start = restore(run) if resume else 0
    loader = load_views(run, start)  # refuses impossible data before anything is written
    if not resume:
        begin(run)
    console = (console or Console()) if world.main else Console(quiet=True)
    with RunLog(out if world.main else None, start, run.total_steps, console) as log:
        train(run, loader, start, log)
    if world.main:
        export(run, run.total_steps)
    barrier(world)
    return out


def set_up(recipe: Recipe, out: Path, world: World, group: str = plugins.METHODS) -> Run:
    """Everything a run needs in memory; touches no file but the data's."""
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    dataset = open_dataset(recipe.data.source, recipe.data.split)
    total_steps, steps_per_epoch = length(recipe, len(dataset))
    method = build_method(recipe, group).to(world.device)
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
    )


def length(recipe: Recipe, images: int) -> tuple[int, int]:
    """Optimiser steps of the whole run and of one pass over `images`, the last few left out."""
    steps_per_epoch = images // recipe.train.batch_size
    return max(1, round(recipe.train.epochs * steps_per_epoch)), steps_per_epoch


def images_each(recipe: Recipe, processes: int, method: type[Method]) -> int:
    """Images of one forward pass of each process; UserError if the batch cannot be shared so."""
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
    return recipe.train.batch_size // parts


def rehearse(recipe: Recipe, processes: int, group: str = plugins.METHODS) -> None:
    """Raises, once and before they start, the UserError of what `processes` would each refuse."""
    run = set_up(recipe, Path(), World(0, 1, torch.device("cpu")), group)
    load_views(replace(run, world=World(0, processes, torch.device("cpu"))), 0)


def build_method(recipe: Recipe, group: str = plugins.METHODS, device: str = "cpu") -> Method:
    """The method of a recipe with fresh weights, which depend on the recipe's seed alone.

    device "meta": with shapes only, but for the frozen modules it needs.
    """
    method_class: type[Method] = plugins.load(group, recipe.method_name)
    needs = {}
    for name, remedy in method_class.needs.items():
        if name not in recipe.needs:
            raise UserError(f"{remedy}.")
        needs[name] = load_module(recipe.needs[name], plugins.group_of(name))
    torch.manual_seed(recipe.train.seed)
    try:
        with torch.device(device):
            return method_class(recipe.method, partial(build_backbone, recipe.backbone), **needs)
    except ValueError as error:
        raise UserError(f"recipe {recipe.name!r} cannot be built: {error}.") from error


def _parallel(method: Method, world: World) -> nn.Module:
    if world.size == 1:
        return method
    devices = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(method, device_ids=devices, broadcast_buffers=False)


def load_views(run: Run, start: int) -> ViewLoader:
    """Batches of this process from step `start` on."""
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
        start_step=start,
        workers=min(recipe.run.workers, cpu_count() or 1),  # more would only get in the way
    )


def begin(run: Run) -> None:
    """Writes the recipe and a first checkpoint and reads it back: better to fail now than later."""
    if run.world.main:
        config = run.out / checkpoint.CONFIG
        try:
            checkpoint.save_json(config, run.recipe.to_dict())
            save(run, 0)
            checkpoint.load_state(run.out)
        except UserError:
            checkpoint.remove(config)  # no run has begun
            raise
    barrier(run.world)


def save(run: Run, step: int) -> None:
    """A checkpoint after `step` steps."""
    state = {
        "step": step,
        "method": run.method.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "content": run.dataset.fingerprint,
    }
    checkpoint.save_state(run.out, state, kept_settings(run.recipe))


def restore(run: Run) -> int:
    """Loads the newest checkpoint; the number of steps already done."""
    parts = ("step", "method", "optimizer")
    state = checkpoint.load_state(run.out, kept_settings(run.recipe), parts)
    if "content" not in state:  # of an older version, which knew data by names and sizes only
        logger.warning("%s does not say what its data held, so that is not checked.", run.out)
    elif state["content"] != run.dataset.fingerprint:
        raise UserError(
            f"{run.out} was trained on other data than {run.recipe.data.source!r} holds now; "
            "restore the data or start a new run."
        )
    try:
        run.method.load_state_dict(state["method"])
        run.optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{run.out / checkpoint.STATE} holds other weights than {run.recipe.method_name} has "
            "in this version; start a new run, or resume with the version that began it."
        ) from error


def train(run: Run, loader: ViewLoader, start: int, log: RunLog) -> None:
    """The loop: batches, one step, what is logged and saved."""
    recipe, world = run.recipe, run.world
    health, meter = Health(run.method.health()), Meter(recipe.train.batch_size)
    batches, bad, saved = iter(loader), 0, time.monotonic()
    for step in range(start, run.total_steps):
        progress = run.progress(step)
        micro = meter.wait(lambda: _next_batches(batches, recipe.train.accumulate, log))
        taken = take_step(run, micro, progress)
        bad = 0 if taken.finite else _count_bad(run, bad + 1, step, taken.values, log)
        meter.count()

        done = step + 1
        if done % recipe.run.log_every == 0 or done == run.total_steps:
            record = {"step": done, "epoch": done / run.steps_per_epoch}
            record |= {"lr": taken.lr, "decay": taken.decay, "grad_norm": float(taken.norm)}
            record |= {**_mean_values(taken.values, world), **meter.read()}
            log.write(record)
            for warning in health.check(record):
                log.say(warning)
        if done == start + ESTIMATE_AFTER:
            log.say(meter.estimate(run.total_steps, done, world.device))
        due = time.monotonic() - saved > 60 * recipe.run.save_minutes
        if world.main and (done % recipe.run.save_every == 0 or due or done == run.total_steps):
            save(run, done)
            saved = time.monotonic()


@dataclass(frozen=True)
class Taken:
    """One optimiser step; not `finite`: it was skipped. norm: of the gradient before clipping."""

    values: dict[str, Tensor]
    norm: Tensor
    lr: float
    decay: float
    finite: bool


def take_step(run: Run, micro: Sequence[ViewBatch], progress: Progress) -> Taken:
    """Schedules, forward, backward, clip, optimiser, `after_step`; nothing if not finite."""
    recipe, method, world = run.recipe, run.method, run.world
    parameters = [p for p in method.parameters() if p.requires_grad]
    buffers = list(method.buffers())
    before = [buffer.clone() for buffer in buffers]
    torch.manual_seed(step_seed(recipe.train.seed, progress.step, world.rank))
    lr, decay = set_schedules(run.optimizer, progress, recipe.optim, recipe.train)
    values = forward_backward(run, micro, progress)
    norm = clip_gradients(parameters, recipe.optim)
    for parameter in method.frozen(progress):
        parameter.grad = None
    finite = _finite(values["loss"], norm, world)
    if finite:
        run.optimizer.step()
        method.after_step(progress)
    else:
        method.discard()
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)  # running statistics hold what is not finite
    run.optimizer.zero_grad(set_to_none=True)
    return Taken(values, norm, lr, decay, finite)


def forward_backward(run: Run, micro: Sequence[ViewBatch], progress: Progress) -> dict[str, Tensor]:
    """Accumulates gradients over the micro-batches; the mean of each logged value."""
    total: dict[str, Tensor] = {}
    bf16 = use_bf16(run.recipe.train.precision, run.world.device)
    for i, batch in enumerate(micro):
        last = i == len(micro) - 1
        if isinstance(run.model, DistributedDataParallel):
            run.model.require_backward_grad_sync = last  # what DDP.no_sync sets
        batch = batch.to(run.world.device)
        with torch.autocast(run.world.device.type, torch.bfloat16, enabled=bf16):
            values = run.model(batch, progress)
        (values["loss"] / len(micro)).backward()
        for key, value in values.items():
            total[key] = total.get(key, torch.zeros(())) + value.detach() / len(micro)
    return total


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to autocast: "auto" asks for hardware that multiplies bf16."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seeds drop path and sampling of one step, so that a resumed run draws the same numbers."""
    return (seed * 1_000_003 + step) * 1_009 + rank


def _next_batches(
    batches: Iterator[tuple[ViewBatch, list[str]]], count: int, log: RunLog
) -> list[ViewBatch]:
    found = []
    for _ in range(count):
        batch, broken = next(batches)
        found.append(batch)
        for text in broken:
            log.skipped(text)
    return found


def _finite(loss: Tensor, norm: Tensor, world: World) -> bool:
    """Whether every process has a finite loss and gradient; the one host sync of a step."""
    bad = (~(torch.isfinite(loss) & torch.isfinite(norm))).float()
    if world.size > 1:
        dist.all_reduce(bad)
    return not bool(bad)


def _count_bad(run: Run, bad: int, step: int, values: Mapping[str, Tensor], log: RunLog) -> int:
    """Reports a skipped step; raises RunError when there were too many in a row."""
    broken = [k for k, v in values.items() if not bool(torch.isfinite(v))] or ["gradient"]
    log.say(f"step {step + 1} skipped: not finite: {', '.join(broken)} ({bad} in a row)")
    if bad >= STOP_AFTER:
        raise RunError(
            f"{bad} steps in a row were not finite (step {step + 1}, {', '.join(broken)}); the "
            f"last good checkpoint is {run.out / checkpoint.STATE}, but resuming meets the same "
            "numbers: start a new run with a lower optim.lr or train.precision=fp32."
        )
    return bad


def _mean_values(values: Mapping[str, Tensor], world: World) -> dict[str, float]:
    """Logged values as floats, averaged over processes."""
    keys = sorted(values)
    stacked = torch.stack([values[k].float() for k in keys])
    if world.size > 1:
        dist.all_reduce(stacked)
        stacked /= world.size
    return dict(zip(keys, stacked.tolist(), strict=True))


def export(run: Run, steps: int) -> None:
    """Writes the weights that are evaluated, with the card that says what they are."""
    recipe, method = run.recipe, run.method
    tensors = {f"backbone.{k}": v for k, v in method.backbone().state_dict().items()}
    if (head := method.head()) is not None:
        tensors |= {f"head.{k}": v for k, v in head.state_dict().items()}
    epochs = steps / run.steps_per_epoch
    seen = method.image_tokens(recipe.method, recipe.backbone.stride)
    card = {
        "recipe": recipe.to_dict(),
        "data": run.dataset.name,
        "data_fingerprint": run.dataset.fingerprint,
        "needs": {
            name: needed_identity(source, plugins.group_of(name))
            for name, source in recipe.needs.items()
        },
        "steps": steps,
        "epochs": epochs,
        "effective_epochs": method.effective_epochs(recipe.method, epochs),
        "tokens": steps * recipe.train.batch_size * seen / 1e9,
    }
    checkpoint.save_weights(run.out / checkpoint.WEIGHTS, tensors, card)
