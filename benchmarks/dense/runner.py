"""mmengine's Runner in the habits of this house: safe and atomic files, exact resume, one log.

A run directory holds config.py (resolved), log.jsonl and tensorboard/ as in pretraining, state.pt
while it trains, then detector.py + detector.pth, which mm's own tools read, and metrics.json.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce_dict, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from rich.console import Console
from torch import nn

from sslbench.benchmarks.dense.backbone import arch_of
from sslbench.benchmarks.dense.job import CONFIG, METRICS
from sslbench.errors import RunError, UserError
from sslbench.storage.checkpoint import OWNER, check_owner, load_state, save_state
from sslbench.storage.files import remove, remove_leftovers, save_json, write_atomically
from sslbench.storage.layout import has_state
from sslbench.storage.sealed import DamagedFile, load_checked, save_checked, sealed_json
from sslbench.system.distributed import World, barrier, is_first, join_world
from sslbench.system.machine import usable_cores
from sslbench.system.products import FastProducts
from sslbench.training.log import RunLog

EXPORT, EXPORT_CONFIG, LOCK = "detector.pth", "detector.py", "run.lock"
DETECTOR = "detector"
log = logging.getLogger(__name__)


class DenseRunner(Runner):
    """Runner whose checkpoints are state.pt of the run directory and whose config is not dumped."""

    def dump_config(self) -> None:
        """The resolved config lies in the run directory already."""

    @property
    def network(self) -> nn.Module:
        """The model without its DDP wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def save(self, step: int) -> None:
        """Writes state.pt (rank 0); randomness needs no state, see `loop.StepLoop`."""
        if is_main_process():
            state = {
                "step": step,
                "model": self.network.state_dict(),
                "optimizer": self.optim_wrapper.state_dict(),
                "schedulers": [s.state_dict() for s in self.param_schedulers],
            }
            save_state(Path(self.work_dir), state, owner_of(Path(self.work_dir)))

    def load_or_resume(self) -> None:
        """Resumes from state.pt where there is one; nothing else is ever loaded."""
        if self._has_loaded or not has_state(Path(self.work_dir)):
            return
        parts = ("step", "model", "optimizer", "schedulers")
        state = load_state(Path(self.work_dir), owner_of(Path(self.work_dir)), parts)
        self.network.load_state_dict(state["model"])
        self.optim_wrapper.load_state_dict(state["optimizer"])
        for scheduler, values in zip(self.param_schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(values)
        self.train_loop._iter = state["step"]
        self._has_loaded = True

    def load_export(self) -> None:
        """Takes the weights of detector.pth, so that every process tests what was exported."""
        content = load_checked(Path(self.work_dir) / EXPORT)
        self.network.load_state_dict(content["state_dict"])
        self._has_loaded = True  # otherwise testing would load state.pt, which may be older


@HOOKS.register_module()
class RunLogHook(Hook):
    """log.jsonl, TensorBoard, progress and state.pt; stops a run whose loss is not finite."""

    priority = "VERY_LOW"  # after the schedulers' hook, so that the state holds their next value

    def __init__(self, log_every: int = 10, save_minutes: float = 15.0) -> None:
        self.log_every, self.save_minutes = log_every, save_minutes
        self.log: RunLog | None = None

    def before_train(self, runner: DenseRunner) -> None:
        loop = runner.train_loop
        folder = Path(runner.work_dir) if is_main_process() else None
        self.log = RunLog(folder, loop.iter, loop.max_iters, Console(quiet=folder is None))
        self.log.__enter__()
        self.began = self.saved = time.monotonic()
        self.first, self.waited = loop.iter, 0.0

    def before_train_iter(self, runner: DenseRunner, batch_idx: int, data_batch: Any) -> None:
        self.rate = runner.optim_wrapper.param_groups[-1]["lr"]  # the heads', which no decay scales

    def after_train_iter(
        self, runner: DenseRunner, batch_idx: int, data_batch: Any, outputs: Mapping[str, Any]
    ) -> None:
        step, loop = batch_idx + 1, runner.train_loop
        self.waited += loop.wait_seconds
        if step % self.log_every == 0 or step == loop.max_iters:
            self._write(runner, step, dict(outputs))
        if step < loop.max_iters and time.monotonic() - self.saved > 60 * self.save_minutes:
            runner.save(step)
            self.saved = time.monotonic()

    def after_train(self, runner: DenseRunner) -> None:
        assert self.log is not None
        self.log.__exit__(None, None, None)

    def _write(self, runner: DenseRunner, step: int, values: dict[str, Any]) -> None:
        assert self.log is not None
        all_reduce_dict(values, op="mean")
        numbers = {key: float(value) for key, value in values.items()}
        if not all(map(math.isfinite, numbers.values())):
            raise RunError(
                f"the loss of {runner.work_dir} is not finite at step {step} ({numbers}); lower "
                "the learning rate or train in fp32."
            )
        seconds, batches = time.monotonic() - self.began, runner.train_loop.batches
        images = (step - self.first) * batches.batch_size * batches.step_size
        speed = {"images_per_s": images / seconds, "data_wait_percent": 100 * self.waited / seconds}
        self.log.write({"step": step, **numbers, "lr": self.rate, **speed})


def run(folder: Path) -> dict[str, float]:
    """Trains, exports and tests what `folder`/config.py says; resumes where it stopped."""
    if not (folder / CONFIG).exists():
        raise UserError(f"{folder} holds no {CONFIG}; name the run directory of a dense benchmark.")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with held(folder), join_world() as world:
        if world.main:
            remove_leftovers(folder)
        config = localised(Config.fromfile(folder / CONFIG), folder, world)
        runner = DenseRunner.from_cfg(config)
        if world.main:
            remove_damaged(folder / EXPORT)
        barrier(world)
        if not (folder / EXPORT).exists():
            with FastProducts():
                runner.train()
            if world.main:
                export(runner, folder)
            barrier(world)
        runner.load_export()
        with FastProducts():
            metrics = {k: float(v) for k, v in runner.test().items() if math.isfinite(v)}
        if world.main:
            save_json(folder / METRICS, sealed_json(metrics))
            for path in folder.glob("state*.pt"):
                path.unlink()  # the optimiser's half is of no use any more
    return metrics


def owner_of(folder: Path, kind: str = "state") -> dict[str, str]:
    """Whose file it is: a job's folder is named by weights, protocol, data and seed."""
    return {"job": folder.resolve().name, "kind": kind}


def remove_damaged(path: Path) -> None:
    """Removes an export that is not as it was written, so that it is made anew, and says so.

    Raises UserError for the export of another run.
    """
    try:
        content = load_checked(path)
        if not isinstance(content, dict) or not {"state_dict", "meta"} <= content.keys():
            raise DamagedFile(f"{path} is damaged (it holds no detector).")
        check_owner(path, content.get(OWNER), owner_of(path.parent, DETECTOR))
    except FileNotFoundError:
        return
    except DamagedFile as error:
        log.warning("%s It is made anew from the newest state.", error)
        remove(path)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other runs out of `folder`; UserError where one is in it already.

    The lock is the kernel's and ends with the process, however that ends.
    """
    with (folder / LOCK).open("a") as file:
        try:
            if is_first():
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise UserError(
                f"another run works in {folder}; let it end, or stop it, and repeat the command."
            ) from error
        yield


def localised(config: Config, folder: Path, world: World) -> Config:
    """`config` for the processes at hand: batches, launcher, SyncBN, DDP."""
    config.work_dir = str(folder)
    loader, total = config.train_dataloader, config.auto_scale_lr.base_batch_size
    micro, accumulate = shares(total, loader.batch_size, world.size)
    loader.batch_size = micro
    loader.batch_sampler.accumulate = accumulate
    for reader in (loader, config.test_dataloader):
        reader.num_workers = min(reader.num_workers, usable_cores())
    config.optim_wrapper.accumulative_counts = accumulate
    if world.size > 1:
        config.launcher = "pytorch"
    if world.device.type == "cpu":
        replace_sync_bn(config.model)
        config.model_wrapper_cfg = {
            "type": "MMDistributedDataParallel",
            "device_ids": None,
            "broadcast_buffers": False,
        }
    return config


def shares(total: int, micro: int, world: int) -> tuple[int, int]:
    """(images a process and forward pass, accumulation) for `total` images an optimiser step.

    At most `micro` images fit a pass. UserError where `total` cannot be divided.
    """
    if total % world:
        raise UserError(
            f"{total} images per optimiser step cannot be shared by {world} processes; use a "
            "number of processes that divides it."
        )
    own = total // world
    micro = next(size for size in range(min(micro, own), 0, -1) if own % size == 0)
    return micro, own // micro


def replace_sync_bn(node: Any) -> None:
    """Writes BN for SyncBN, which exists on GPUs alone, in place."""
    if isinstance(node, dict):
        if node.get("type") == "SyncBN":
            node["type"] = "BN"
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            replace_sync_bn(child)


def export(runner: DenseRunner, folder: Path) -> None:
    """detector.pth + detector.py: weights and a config that needs no other file."""
    meta = {"dataset_meta": dict(runner.train_dataloader.dataset.metainfo)}
    content = {"state_dict": runner.network.state_dict(), "meta": meta}
    content[OWNER] = owner_of(folder, DETECTOR)
    config = Config.fromfile(folder / CONFIG)
    for name in ("source", "sha256"):  # of the weights that it was tuned from
        config.model.backbone.pop(name, None)
    config.model.backbone.arch = arch_of(runner.network.backbone.model)
    config.work_dir = str(folder / "tools")
    # the tools' own log and pictures, which our runs do without
    config.default_hooks = {k: v for k, v in config.default_hooks.items() if v}
    config.custom_hooks, config.log_level = [], "INFO"
    config.visualizer.vis_backends = [{"type": "LocalVisBackend"}]
    write_atomically(folder / EXPORT_CONFIG, lambda path: path.write_text(config.pretty_text))
    save_checked(folder / EXPORT, content)
