"""AdamW over decayed and exempt parameters, and the papers' two ways to clip gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sslbench.method import Progress
from sslbench.recipes.recipe import OptimConfig, TrainConfig, peak_lr
from sslbench.training.schedules import cosine_schedule


def make_optimizer(method: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with group 0 decayed and group 1 exempt.

    Exempt: 1-D tensors and biases (dino/utils.py:632-643), and names ending in `no_decay`
    (beit/optim_factory.py:58-71). Unless named there,
    positions and tokens are decayed.
    """
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        endings = (".bias", *config.no_decay)
        (exempt if parameter.ndim <= 1 or name.endswith(endings) else decayed).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed},
        {"params": exempt, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=1e-8, fused=True)


def set_schedules(
    optimizer: torch.optim.Optimizer, progress: Progress, optim: OptimConfig, train: TrainConfig
) -> tuple[float, float]:
    """Writes this step's lr into both groups and its weight decay into group 0; returns them."""
    warmup = int(optim.warmup_epochs * progress.steps_per_epoch)
    total, step = progress.total_steps, progress.step
    lr = cosine_schedule(step, total, peak_lr(optim, train), optim.min_lr, warmup)
    decay = cosine_schedule(step, total, optim.weight_decay, optim.weight_decay_end)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.param_groups[0]["weight_decay"] = decay
    return lr, decay


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
