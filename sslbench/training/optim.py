"""AdamW over decayed and exempt parameters, and the papers' two ways to clip gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sslbench.backbones.layers import LayerRate, layer_rates
from sslbench.errors import UserError
from sslbench.method import Progress
from sslbench.recipes.recipe import OptimConfig, TrainConfig, peak_lr
from sslbench.training.schedules import cosine_schedule, epoch_schedule, warmup_length

ONE = LayerRate(0, 1.0)  # without layer decay all parameters are one layer


def make_optimizer(method: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with pairs of groups, decayed and exempt: one pair, or one per layer of the backbone.

    Exempt: 1-D tensors and biases (dino/utils.py:632-643), and names ending in `no_decay`
    (beit/optim_factory.py:58-71). Unless named there, positions and tokens are decayed. The groups
    of a layer carry "lr_scale" (`layer_rates`). UserError for layer decay without a backbone.
    """
    rates = _layer_rates(method, config.layer_decay) if config.layer_decay < 1 else {}
    pairs: dict[LayerRate, tuple[list[nn.Parameter], list[nn.Parameter]]]
    pairs = {rate: ([], []) for rate in sorted(set(rates.values()) or {ONE})}
    endings = (".bias", *config.no_decay)
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            exempt = parameter.ndim <= 1 or name.endswith(endings)
            pairs[rates.get(name, ONE)][exempt].append(parameter)
    groups: list[dict[str, Any]] = []
    for rate, (decayed, undecayed) in pairs.items():
        keys = {"lr_scale": rate.scale} if rates else {}  # the checkpoints of one pair have none
        groups.append({"params": decayed, **keys})
        groups.append({"params": undecayed, "weight_decay": 0.0, **keys})
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=1e-8, fused=True)


def set_schedules(
    optimizer: torch.optim.Optimizer, progress: Progress, optim: OptimConfig, train: TrainConfig
) -> tuple[float, float]:
    """Writes this step's lr into all groups and its weight decay into the decayed ones.

    Returns both; the groups of a layer learn at lr times their "lr_scale".
    """
    lr = learning_rate(progress, optim, peak_lr(optim, train))
    decay = cosine_schedule(
        progress.step, progress.total_steps, optim.weight_decay, optim.weight_decay_end
    )
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    for group in optimizer.param_groups[::2]:
        group["weight_decay"] = decay
    return lr, decay


def learning_rate(progress: Progress, optim: OptimConfig, peak: float) -> float:
    """The learning rate of the top layer at this step."""
    total, per_epoch = progress.total_steps, progress.steps_per_epoch
    if optim.schedule == "epoch":
        epochs, warmup = total / per_epoch, optim.warmup_epochs
        return epoch_schedule(progress.epoch, epochs, peak, optim.min_lr, warmup, optim.warmup_lr)
    warmup = warmup_steps(optim, per_epoch)
    return cosine_schedule(progress.step, total, peak, optim.min_lr, warmup, optim.warmup_lr)


def warmup_steps(optim: OptimConfig, steps_per_epoch: int) -> int:
    """Steps before the learning rate first follows the cosine; see `epoch_schedule` for epochs."""
    if optim.schedule == "epoch":
        return warmup_length(optim.warmup_epochs) * steps_per_epoch
    return int(optim.warmup_epochs * steps_per_epoch)


def _layer_rates(method: nn.Module, decay: float) -> dict[str, LayerRate]:
    try:
        return layer_rates(method, decay)
    except (LookupError, NotImplementedError) as error:
        raise UserError(
            f"optim.layer_decay={decay:g} cannot be used: {error}; set optim.layer_decay=1."
        ) from error


def clip_gradients(parameters: Sequence[nn.Parameter], config: OptimConfig) -> Tensor:
    """Clips in place and returns the global gradient norm before clipping (0-dim tensor).

    "tensor": each tensor separately to norm `clip` (dino/utils.py:132-141, epsilon 1e-6);
    "global": all together (beit/utils.py:345-351). With clip 0 or None only the
    norm is taken (dino/main_dino.py:327, beit/run_beit_pretraining.py:191).
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    total = norms.norm()
    if config.clip:
        base = norms if config.clip_by == "tensor" else total.expand(len(gradients))
        scales = (config.clip / (base + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, list(scales.unbind()))
    return total
