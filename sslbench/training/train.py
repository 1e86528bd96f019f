"""The trainer: set-up, resume, then the loop over steps; `step` has what one of them does."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor

from sslbench import plugins
from sslbench.data.loader import ViewLoader
from sslbench.errors import RunError
from sslbench.method import ViewBatch
from sslbench.recipes.recipe import Recipe
from sslbench.storage import files, layout
from sslbench.system import interrupts
from sslbench.system.distributed import World, barrier
from sslbench.system.interrupts import Interrupted
from sslbench.system.processes import is_worker_death
from sslbench.training.export import at_step, export
from sslbench.training.health import Health
from sslbench.training.log import RunLog
from sslbench.training.meter import Meter
from sslbench.training.online import Online, watch
from sslbench.training.run import Run, begin, load_views, restore, save, set_up
from sslbench.training.step import Taken, take_step

STOP_AFTER = 3  # non-finite steps in a row
ESTIMATE_AFTER = 10  # steps timed before the time left is estimated


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
        files.remove_leftovers(out)
    online = watch(run.method, recipe, run.dataset, world.main)  # while weights are untrained
    start = restore(run) if resume else 0
    loader = load_views(run, start)  # refuses impossible data before anything is written
    console = (console or Console()) if world.main else Console(quiet=True)
    folder = out if world.main else None
    with resumable(run):
        begin(run, start, resume)
        log = RunLog(folder, start, run.total_steps, console, recipe.run.tracker)
        with worker_deaths(run), log:
            if resume:
                log.say(f"resuming after step {start} of {run.total_steps}")
            train(run, loader, start, log, online)
            if world.main:
                export(run.trained(run.total_steps), out / layout.WEIGHTS)
                log.ended(out / layout.WEIGHTS)
        barrier(world)
    return out


def train(run: Run, loader: ViewLoader, start: int, log: RunLog, online: Online) -> None:
    """The loop: batches, one step, what is logged and saved.

    A signal ends it after the step it meets, which is saved: Interrupted.
    """
    recipe, world = run.recipe, run.world
    health = Health(run.method.health(), run.total_steps)
    meter = Meter(recipe.train.batch_size)
    if online.probe:
        log.say(online.sentence())
    bad, saved = 0, time.monotonic()
    with interrupts.noted() as asked, closing(iter(loader)) as data:
        for step in range(start, run.total_steps):
            progress = run.progress(step)
            micro = meter.wait(lambda: _next_batches(data, recipe.train.accumulate, log))
            taken = take_step(run, micro, progress, asked.number)
            bad = 0 if taken.finite else _count_bad(run, bad + 1, step, taken.values, log)
            meter.count()

            done = step + 1
            last = done == run.total_steps
            if done % recipe.run.log_every == 0 or last:
                measured = online.values(done, recipe.run.log_every, run.total_steps)
                record = {**_record(run, taken, done), **meter.read(), **measured}
                log.write(record)
                for text in loader.exchange():
                    log.skipped(text)
                for warning in health.check(record):
                    log.say(warning)
            if done == start + ESTIMATE_AFTER:
                log.say(meter.estimate(run.total_steps, done, world.device))
            late = time.monotonic() - saved > 60 * recipe.run.save_minutes
            due = done % recipe.run.save_every == 0 or late
            if world.main and (due or last or taken.stop):
                save(run, done)
                saved = time.monotonic()
            if world.main and export_due(recipe, done, run.steps_per_epoch):
                export(run.trained(done), at_step(run.out, done))
            if taken.stop and not last:
                barrier(world)
                told = f"saved after step {done} of {run.total_steps}; {how_to_resume(run)}"
                raise Interrupted(taken.stop, told)


def how_to_resume(run: Run) -> str:
    tokenizer = run.method.name in plugins.available(plugins.TOKENIZERS)
    command = "tokenizer train" if tokenizer else "pretrain"
    return f"go on with `sslbench {command} --resume --out {shlex.quote(str(run.out))}`"


@contextmanager
def resumable(run: Run) -> Iterator[None]:
    """What a signal ends before or after the steps says how to go on, too."""
    try:
        yield
    except Interrupted as end:
        if not end.message and layout.has_state(run.out):
            end.message = f"the newest checkpoint is kept; {how_to_resume(run)}"
        raise


@contextmanager
def worker_deaths(run: Run) -> Iterator[None]:
    """Says in one sentence that a data worker died, which torch raises wherever it notices."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if not is_worker_death(error):
            raise
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would go on raising
        said = " ".join(str(error).split()).removesuffix(".")
        raise RunError(
            f"a data worker died: {said} (by hand, or because memory ran out: then lower "
            f"run.workers); the newest checkpoint is kept, {how_to_resume(run)}."
        ) from error


def export_due(recipe: Recipe, step: int, steps_per_epoch: int) -> bool:
    """Whether weights are written after this step, besides those at the end."""
    wanted = recipe.run.export_every
    return wanted > 0 and step % max(1, round(wanted * steps_per_epoch)) == 0


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


def _count_bad(run: Run, bad: int, step: int, values: Mapping[str, Tensor], log: RunLog) -> int:
    """Reports a skipped step; raises RunError when there were too many in a row."""
    broken = [k for k, v in values.items() if not bool(torch.isfinite(v))] or ["gradient"]
    log.say(f"step {step + 1} skipped: not finite: {', '.join(broken)} ({bad} in a row)")
    if bad >= STOP_AFTER:
        raise RunError(
            f"{bad} steps in a row were not finite (step {step + 1}, {', '.join(broken)}); the "
            f"last good checkpoint is {run.out / layout.STATE}, but resuming meets the same "
            "numbers: start a new run with a lower optim.lr or train.precision=fp32."
        )
    return bad


def _record(run: Run, taken: Taken, done: int) -> dict[str, float]:
    """What is logged of a step, `done` steps being done."""
    record = {"step": done, "epoch": done / run.steps_per_epoch}
    record |= {"lr": taken.lr, "decay": taken.decay, "grad_norm": float(taken.norm)}
    return record | _mean_values(taken.values, run.world)


def _mean_values(values: Mapping[str, Tensor], world: World) -> dict[str, float]:
    """Logged values as floats, averaged over processes."""
    keys = sorted(values)
    stacked = torch.stack([values[k].float() for k in keys])
    if world.size > 1:
        dist.all_reduce(stacked)
        stacked /= world.size
    return dict(zip(keys, stacked.tolist(), strict=True))
