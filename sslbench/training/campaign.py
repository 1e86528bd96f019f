"""Trains all recipes of a folder of configs, several at a time, and resumes where it stopped.

Each run is a separate process with one thread, because small models do not fill two; `demo` and
`reference` are campaigns. Tokenizers are trained first, since other methods need them.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sslbench import plugins
from sslbench.errors import RunError, UserError
from sslbench.recipes.identity import differing
from sslbench.recipes.load import config_files, load_recipe
from sslbench.recipes.recipe import Recipe
from sslbench.storage.layout import CONFIG, WEIGHTS, has_state
from sslbench.system import processes
from sslbench.training.folder import locked
from sslbench.training.log import LOG, read_log
from sslbench.training.stored import stored_recipe

POLL_SECONDS, SPEAK_SECONDS = 0.5, 30.0


@dataclass(frozen=True)
class Job:
    """One run: its recipe, its run directory `out` and the runs that must end before it."""

    recipe: Recipe
    group: str
    out: Path
    after: tuple[Path, ...] = ()

    @property
    def done(self) -> bool:
        return (self.out / WEIGHTS).exists()

    def check(self) -> None:
        """Raises UserError if the folder holds a run with settings other than the recipe's."""
        if not (self.out / CONFIG).exists() and not has_state(self.out):
            return
        begun, _ = stored_recipe(self.out)
        if names := differing(begun, self.recipe):
            raise UserError(
                f"{self.out} holds a run of other settings ({', '.join(names[:3])}); remove or "
                "rename it, so that it is not taken for this one."
            )

    def arguments(self) -> list[str]:
        """The arguments of `python` that start or resume the run."""
        seed = f"train.seed={self.recipe.train.seed}"
        command = ["-m", "sslbench.cli"]
        if self.group == plugins.TOKENIZERS:
            command += ["tokenizer", "train", "--kind", self.recipe.method_name]
        else:
            command += ["pretrain", "--method", self.recipe.method_name]
        command += ["--out", str(self.out)]
        if has_state(self.out):
            return [*command, "--resume"]
        command += ["--config", self.recipe.name, "--set", seed, "--set", "run.threads=1"]
        for name, source in self.recipe.needs.items():
            command += ["--set", f"needs.{name}={source}"]
        return command


def plan(folder: str, root: Path, seeds: Sequence[int]) -> list[Job]:
    """The jobs of `configs/folder` for every seed; those that others need come first."""
    names = [n for n in config_files() if n.startswith(f"{folder}/")]
    if not names:
        raise UserError(f"there is no config in {folder!r}.")
    tokenizers = plugins.available(plugins.TOKENIZERS)
    jobs: list[Job] = []
    for seed in seeds:
        changes, needed = [f"train.seed={seed}"], {}
        for name in sorted(names, key=lambda n: n.rsplit("/", 1)[-1] not in tokenizers):
            short = name.rsplit("/", 1)[-1]
            out = root / f"{short}-seed{seed}"
            if short in tokenizers:
                recipe = load_recipe(name, None, changes, plugins.TOKENIZERS)
                jobs.append(Job(recipe, plugins.TOKENIZERS, out))
                needed["tokenizer"] = out
                continue
            wanted = plugins.load(plugins.METHODS, short).needs
            given = [f"needs.{key}={path}" for key, path in needed.items() if key in wanted]
            recipe = load_recipe(name, short, [*changes, *given])
            after = tuple(needed[key] for key in wanted if key in needed)
            jobs.append(Job(recipe, plugins.METHODS, out, after))
    return jobs


def run(jobs: Sequence[Job], at_once: int, console: Console) -> None:
    """Trains the runs that are not finished, `at_once` at a time; RunError if one fails.

    Raises UserError if another process already trains in this folder, which all jobs share.
    """
    for job in jobs:
        job.check()
    root = jobs[0].out.parent
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        _run(jobs, at_once, console)


def _run(jobs: Sequence[Job], at_once: int, console: Console) -> None:
    waiting = [job for job in jobs if not job.done]
    running: dict[Path, tuple[Job, subprocess.Popen[bytes]]] = {}
    with _Display(jobs, console) as display:
        try:
            while waiting or running:
                for job in _ready(waiting, running, at_once):
                    waiting.remove(job)
                    running[job.out] = (job, _start(job))
                time.sleep(POLL_SECONDS)
                for job, process in list(running.values()):
                    display.show(job)
                    if process.poll() is None:
                        continue
                    del running[job.out]
                    display.ended(job)
                    if process.returncode:
                        raise RunError(_failure(job, process.returncode))
        finally:
            processes.end([process for _, process in running.values()])


def _ready(
    waiting: Sequence[Job], running: dict[Path, tuple[Job, subprocess.Popen[bytes]]], at_once: int
) -> list[Job]:
    """The jobs that may start now; those that need others come last.

    In the demo they are the shortest, so that the cores end at about the same time.
    """
    blocked = {job.out for job in waiting} | set(running)
    free = [job for job in waiting if not blocked & set(job.after)]
    free.sort(key=lambda job: bool(job.after))
    return free[: max(0, at_once - len(running))]


def _start(job: Job) -> subprocess.Popen[bytes]:
    job.out.mkdir(parents=True, exist_ok=True)
    with (job.out / "console.log").open("ab") as log:
        environment = processes.for_one_core() | {"OMP_NUM_THREADS": "1"}
        return processes.start(job.arguments(), environment, stdout=log, stderr=log)


def _failure(job: Job, code: int) -> str:
    lines = (job.out / "console.log").read_text().strip().splitlines()
    reason = lines[-1] if lines else "it printed nothing"
    reason = f"it {processes.killed(code)}" if code < 0 else reason
    return (
        f"training {job.out} failed ({reason}); see {job.out / 'console.log'} and run this again."
    )


class _Display:
    """A progress bar per run on a terminal; elsewhere a line per run every half minute."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self.console, self.spoke = console, 0.0
        self.bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.tasks: dict[Path, TaskID] = {
            job.out: self.bar.add_task(job.out.name, total=1, completed=int(job.done), values="")
            for job in jobs
        }
        self.last: dict[Path, float] = {}

    def __enter__(self) -> _Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self, job: Job) -> None:
        records = read_log(job.out) if (job.out / LOG).exists() else []
        if not records:
            return
        record = records[-1]
        share = record["epoch"] / job.recipe.train.epochs
        values = f"loss {record['loss']:.3f}  {record['images_per_s']:.0f} images/s"
        self.bar.update(self.tasks[job.out], completed=share, values=values)
        now = time.monotonic()
        if not self.console.is_terminal and now - self.last.get(job.out, 0.0) > SPEAK_SECONDS:
            self.last[job.out] = now
            text = f"{job.out.name}: {share:.0%}  {values}"
            self.console.print(text, highlight=False)

    def ended(self, job: Job) -> None:
        self.show(job)
        if not self.console.is_terminal:
            self.console.print(f"{job.out.name}: done", highlight=False)
