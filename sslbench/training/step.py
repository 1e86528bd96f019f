"""One optimiser step in plain sight, the same on any number of processes and micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from sslbench.backbones.sampling import Place, set_place, step_seed
from sslbench.method import Progress, ViewBatch
from sslbench.system.distributed import World
from sslbench.training.optim import clip_gradients, set_schedules
from sslbench.training.run import Run


@dataclass(frozen=True)
class Taken:
    """One optimiser step; not `finite`: it was skipped. norm: of the gradient before clipping.

    stop: the number of the signal that asked any process for the end, else 0.
    """

    values: dict[str, Tensor]
    norm: Tensor
    lr: float
    decay: float
    finite: bool
    stop: int = 0


def take_step(run: Run, micro: Sequence[ViewBatch], progress: Progress, asked: int = 0) -> Taken:
    """Schedules, forward, backward, clip, optimiser, `after_step`; nothing if not finite.

    asked: the signal that asked this process for the end, else 0.
    """
    recipe, method, world = run.recipe, run.method, run.world
    parameters = [p for p in method.parameters() if p.requires_grad]
    buffers = list(method.buffers())
    before = [buffer.clone() for buffer in buffers]
    lr, decay = set_schedules(run.optimizer, progress, recipe.optim, recipe.train)
    values = forward_backward(run, micro, progress)
    norm = clip_gradients(parameters, recipe.optim)
    for parameter in method.frozen(progress):
        parameter.grad = None
    finite, stop = agree(values["loss"], norm, asked, world)
    if finite:
        run.optimizer.step()
        method.after_step(progress)
    else:
        method.discard()
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)  # running statistics hold what is not finite
    run.optimizer.zero_grad(set_to_none=True)
    return Taken(values, norm, lr, decay, finite, stop)


def forward_backward(run: Run, micro: Sequence[ViewBatch], progress: Progress) -> dict[str, Tensor]:
    """Accumulates gradients over the micro-batches; the mean of each logged value."""
    recipe, world, total = run.recipe, run.world, dict[str, Tensor]()
    bf16 = use_bf16(recipe.train.precision, world.device)
    for i, batch in enumerate(micro):
        last = i == len(micro) - 1
        if isinstance(run.model, DistributedDataParallel):
            run.model.require_backward_grad_sync = last  # what DDP.no_sync sets
        first = (world.rank * len(micro) + i) * len(batch)
        set_place(run.method, Place(first, len(batch), recipe.train.batch_size))
        torch.manual_seed(step_seed(recipe.train.seed, progress.step))
        batch = batch.to(world.device)
        with torch.autocast(world.device.type, torch.bfloat16, enabled=bf16):
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


def agree(loss: Tensor, norm: Tensor, asked: int, world: World) -> tuple[bool, int]:
    """Whether every process has a finite loss and gradient, and the signal that any was sent.

    The one host sync of a step.
    """
    bad = (~(torch.isfinite(loss) & torch.isfinite(norm))).float()
    told = torch.stack([bad, torch.full_like(bad, asked)])
    if world.size > 1:
        dist.all_reduce(told, dist.ReduceOp.MAX)
    bad_anywhere, stop = told.tolist()
    return not bad_anywhere, int(stop)
