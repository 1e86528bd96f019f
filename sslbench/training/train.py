"""Pretraining: `pretrain` sets up and finishes a run, `train` is the loop over optimiser steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from sslbench import plugins
from sslbench.backbones.sampling import Place, set_place, step_seed
from sslbench.data.dataset import ImageDataset
from sslbench.method import Method, Progress, ViewBatch
from sslbench.recipes.recipe import Recipe
from sslbench.storage import files, layout
from sslbench.system import interrupts
from sslbench.system.device import Late, free_to_read
from sslbench.system.distributed import World, barrier
from sslbench.system.products import FastProducts
from sslbench.training.endings import resumable, worker_deaths
from sslbench.training.export import export
from sslbench.training.journal import Journal, Recorder, StepResult
from sslbench.training.log import LOG, RunLog, read_log
from sslbench.training.online import Watch, watch
from sslbench.training.optim import clip_gradients, set_schedules
from sslbench.training.precision import use_bf16
from sslbench.training.run import Run, begin, load_views, restore, set_up

PARTS = FORWARD, BACKWARD, UPDATE = ("forward", "backward", "update")  # of a step, to a profiler


def usual(run: Run) -> Watch:
    """What is measured of a pretraining."""
    return watch(run.method, run.recipe, run.dataset, run.world.main)


def pretrain(
    recipe: Recipe,
    out: Path,
    world: World,
    resume: bool = False,
    console: Console | None = None,
    group: str = plugins.METHODS,
    watching: Callable[[Run], Watch] = usual,
    dataset: ImageDataset | None = None,
) -> Path:
    """Trains `recipe` into the run directory `out` and returns it.

    watching: what is measured meanwhile; it is made while the weights are untrained. dataset:
    instead of the one that the recipe names, where that was opened in another way.
    Raises UserError for a recipe that cannot run and RunError when the run breaks.
    """
    run = set_up(recipe, out, world, group, dataset, resume)
    if resume and world.main:
        files.remove_leftovers(out)
    online = watching(run)
    start = restore(run) if resume else 0
    if resume and recipe.init.source and world.main:
        online.recall(read_log(out) if (out / LOG).exists() else [])
    loader = load_views(run, start)  # refuses impossible data before anything is written
    console = (console or Console()) if world.main else Console(quiet=True)
    folder = out if world.main else None
    with resumable(run):
        begin(run, start, resume)
        log = RunLog(folder, start, run.total_steps, console, recipe.run.tracker)
        with worker_deaths(run), log:
            if resume:
                log.say(f"resuming after step {start} of {run.total_steps}")
            for note in run.notes:
                log.say(f"{note}.")
            if sentence := online.sentence():
                log.say(sentence)
            journal = Journal(run, loader, online, log, start)
            train(run, journal.batches(), range(start, run.total_steps), journal)
            if world.main:
                export(run.trained(run.total_steps), out / layout.WEIGHTS)
                log.ended(out / layout.WEIGHTS)
        barrier(world)
    return out


def train(
    run: Run, batches: Generator[ViewBatch, None, None], steps: range, journal: Recorder
) -> None:
    """Takes the optimiser steps `steps`, which are the same on any number of processes.

    batches: this process's micro-batches, `train.accumulate` per step. A step whose loss or
    gradient is not finite on any process changes nothing. Signals wait until the step is recorded.
    Nothing here waits for the device: the host goes on to the next step while it computes.
    """
    recipe, method, world, optimizer = run.recipe, run.method, run.world, run.optimizer
    accumulate, batch_size = recipe.train.accumulate, recipe.train.batch_size
    bf16 = use_bf16(recipe.train.precision, world.device)
    parameters = [p for p in method.parameters() if p.requires_grad]
    shared = SharedSignal(world)
    with interrupts.noted() as signals, closing(batches):
        for step in steps:
            progress = run.progress(step, journal.reads(step + 1))
            kept = copies(method.buffers())
            lr, decay = set_schedules(optimizer, progress, recipe.optim, recipe.train)

            values: dict[str, Tensor] = {}  # means over the micro-batches
            for i in range(accumulate):
                batch = next(batches).to(world.device)
                if isinstance(run.model, DistributedDataParallel):  # as DDP.no_sync does
                    run.model.require_backward_grad_sync = i == accumulate - 1
                first = (world.rank * accumulate + i) * len(batch)
                set_place(method, Place(first, len(batch), batch_size))
                torch.manual_seed(step_seed(recipe.train.seed, step))
                # autocast and the compiler choose the products themselves
                with nullcontext() if bf16 or recipe.train.compile else FastProducts():
                    autocast = torch.autocast(world.device.type, torch.bfloat16, enabled=bf16)
                    with autocast, record_function(FORWARD):
                        outputs = run.model(batch, progress)
                    with record_function(BACKWARD):
                        (outputs["loss"] / accumulate).backward()
                for key, value in outputs.items():
                    values[key] = values.get(key, torch.zeros(())) + value.detach() / accumulate

            with record_function(UPDATE):
                norm = clip_gradients(parameters, recipe.optim)
                for parameter in method.frozen(progress):
                    parameter.grad = None
                skipped, number = agree(values["loss"], norm, signals.number, world)
                # as GradScaler says it: where this is 1, AdamW leaves weights and state alone
                optimizer.found_inf = skipped  # type: ignore[attr-defined]
                optimizer.step()
                follow(method, progress, kept, skipped)
                optimizer.zero_grad(set_to_none=True)

            signal = shared.known(signals.number, number)
            # log line, checkpoint, weights, warnings; ends the run if a signal or NaNs demand it
            journal.record(StepResult(step + 1, values, norm, lr, decay, skipped, signal))


def agree(loss: Tensor, norm: Tensor, signal: int, world: World) -> tuple[Tensor, Tensor]:
    """1 if loss or gradient norm is not finite on any process, and a signal sent to any; or 0.

    Both are float32, 0-dim, on the device; signal: the number of the one sent to this process.
    """
    bad = (~(torch.isfinite(loss) & torch.isfinite(norm))).to(torch.float32)
    flags = torch.stack([bad, torch.full_like(bad, signal)])
    if world.size > 1:
        dist.all_reduce(flags, dist.ReduceOp.MAX)
    return flags[0], flags[1]


class SharedSignal:
    """The signal that processes end by, all after the same step.

    One process needs no other. Several on GPUs know it a step late, when its copy has arrived.
    """

    def __init__(self, world: World) -> None:
        self.alone, self._before = world.size == 1, Late(torch.zeros(()))

    def known(self, own: int, of_all: Tensor) -> int:
        """The number of the signal, or 0; own: of this process; of_all: see `agree`."""
        if self.alone:
            return own
        if free_to_read(of_all):
            return int(of_all)
        before, self._before = self._before, Late(of_all)
        return int(before.read())


def follow(
    method: Method, progress: Progress, kept: list[tuple[Tensor, Tensor]], skipped: Tensor
) -> None:
    """Moves what follows the weights; after a skipped step all is as it was.

    kept: see `copies`, of the buffers before the step. A GPU is not asked whether it is skipped:
    all moves there and is put back.
    """
    if not free_to_read(skipped):
        kept = kept + copies(averages(method))
        method.after_step(progress)
        put_back(kept, skipped)
    elif skipped:
        put_back(kept, skipped)
    else:
        method.after_step(progress)


def averages(method: Method) -> Iterable[Tensor]:
    """The parameters that `after_step` may move, such as a teacher's."""
    if type(method).after_step is Method.after_step:
        return ()
    return (p for p in method.parameters() if not p.requires_grad)


def copies(tensors: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Each tensor and a copy of its values."""
    return [(tensor, tensor.clone()) for tensor in tensors]


@torch.no_grad()
def put_back(kept: Iterable[tuple[Tensor, Tensor]], skipped: Tensor) -> None:
    """Where the step is skipped, gives tensors the values that were copied before it."""
    for tensor, before in kept:
        torch.where(skipped > 0, before, tensor, out=tensor)
