"""Runs of seconds: a folder of 32-px images, recipes of some 15 steps, and processes that die."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mmengine.visualization  # noqa: F401  (here, so that the fork server imports it once)
import torch
import torch.utils.tensorboard
from rich.console import Console

from sslbench import plugins
from sslbench.recipes.load import recipe_from_dict
from sslbench.recipes.recipe import Recipe
from sslbench.system.distributed import World, join_world
from sslbench.training.log import read_log
from sslbench.training.train import pretrain
from tests.held import hold_after
from tests.pictures import write_images as write_images

ALONE = World(0, 1, torch.device("cpu"))
HEAD = {"out_dim": 32, "hidden_dim": 32, "bottleneck_dim": 16, "freeze_last_layer": 0.5}
CROPS = {"global_size": 32, "local_size": 16, "local_crops": 1}
METHODS: dict[str, dict[str, Any]] = {
    "dino": {**HEAD, "views": CROPS},
    "ibot": {**HEAD, "views": CROPS, "mask": {"ratios": [[0.3, 0.2]]}},
    "beit": {"views": {"size": 32, "token_size": 32}},
    "dvae": {"num_codes": 16, "downsample": 8, "hidden_dim": 32, "views": {"size": 32}},
}


def settings(method: str, data: Path, /, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as nested dict: 3 epochs of 5 steps on 40 images; `sections` change it."""
    values: dict[str, Any] = {
        "name": f"small/{method}",
        "method": {"name": method, **METHODS[method]},
        "backbone": {"name": "vit_nano", "patch_size": 8, "image_size": 32, "drop_path": 0.2},
        "data": {"source": str(data)},
        "optim": {"lr": 1e-3, "scale_lr": False, "warmup_epochs": 0.5},
        "train": {"epochs": 3, "batch_size": 8, "precision": "fp32"},
        "run": {"workers": 0, "threads": 1, "log_every": 1, "save_every": 3},
    }
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return values


def group_of(method: str) -> str:
    return plugins.TOKENIZERS if method == "dvae" else plugins.METHODS


def recipe(method: str, data: Path, /, **sections: Mapping[str, Any]) -> Recipe:
    return recipe_from_dict(settings(method, data, **sections), group_of(method))


def train(small: Recipe, out: Path, resume: bool = False) -> Path:
    """`pretrain` in this process, on one thread of the CPU, without a word."""
    group = group_of(small.method_name)
    return pretrain(small, out, ALONE, resume, Console(quiet=True), group)


def losses(out: Path) -> list[dict[str, float]]:
    """Everything logged that the clock has no part in."""
    clock = ("images_per_s", "data_wait_percent")
    return [{k: v for k, v in record.items() if k not in clock} for record in read_log(out)]


def write_config(path: Path, method: str, data: Path, /, **sections: Mapping[str, Any]) -> Path:
    """A config file with the small recipe."""
    values = settings(method, data, **sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
    return path


# --- other processes -----------------------------------------------------------------------------

_server = multiprocessing.get_context("forkserver")  # imports torch once, not in every child
_server.set_forkserver_preload([__name__])


def start(target: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
    process = _server.Process(target=target, args=arguments)
    process.start()
    return process


def train_and_die(small: Recipe, out: Path, step: int, where: str) -> None:
    """Trains until SIGKILL strikes at `step`; see `ways_to_die`."""
    ways_to_die()[where](step)
    train(small, out)


def train_and_hold(small: Recipe, out: Path, step: int) -> None:
    """Trains until `step`, and waits there to be killed."""
    hold_after(step)
    train(small, out)


def ways_to_die() -> dict[str, Callable[[int], None]]:
    """Places a kill may strike: "log", after a line of the log; "half", while the checkpoint of a
    step is written; "between", after the old checkpoint was moved and before the new one is."""
    from sslbench.storage import checkpoint
    from sslbench.training.log import RunLog

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def log(step: int) -> None:
        write = RunLog.write

        def dying(self: RunLog, values: Mapping[str, float]) -> None:
            write(self, values)
            if values["step"] == step:
                self._file.write('{"step": ')
                self._file.flush()
                die()

        RunLog.write = dying  # type: ignore[method-assign]

    def half(step: int) -> None:
        save = torch.save

        def dying(state: Mapping[str, Any], file: Any) -> None:
            save(state, file)
            if state["step"] == step:
                file.truncate(1000)
                die()

        torch.save = dying  # type: ignore[assignment]

    def between(step: int) -> None:
        write, replace = checkpoint.save_state, Path.replace

        def dying(folder: Path, state: Mapping[str, Any], owner: Mapping[str, Any]) -> None:
            if state["step"] == step:
                Path.replace = dying_replace  # type: ignore[method-assign,assignment]
            write(folder, state, owner)

        def dying_replace(self: Path, target: Path) -> Path:
            return die() if self.suffix == ".tmp" else replace(self, target)  # type: ignore[return-value]

        checkpoint.save_state = dying

    return {"log": log, "half": half, "between": between}


def train_as(rank: int, world: int, port: int, small: Recipe, out: Path) -> None:
    """One of `world` processes, as torchrun describes it to them."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({k: str(v) for k, v in place.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""})
    with join_world() as here:
        group = group_of(small.method_name)
        pretrain(small, out, here, console=Console(quiet=True), group=group)


def train_together(world: int, small: Recipe, out: Path) -> Path:
    """The run of `world` gloo processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(train_as, rank, world, port, small, out) for rank in range(world)]
    for process in processes:
        process.join(120)
    assert [p.exitcode for p in processes] == [0] * world
    return out


def kill_points(seed: int, last: int, count: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(1, last), count))
