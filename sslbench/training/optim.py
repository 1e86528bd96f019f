"""AdamW over decayed and exempt parameters, and the papers' two ways to clip gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sslbench.backbones.layers import Layers
from sslbench.errors import UserError
from sslbench.method import Progress
from sslbench.recipes.recipe import OptimConfig, TrainConfig, peak_lr
from sslbench.training.schedules import cosine_schedule, epoch_schedule

SCALE, EXEMPT = "lr_scale", "exempt"  # of a group: factor of its lr, and whether it is not decayed


def make_optimizer(method: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with a decayed and an exempt group, of each layer where `layer_decay` is not 1.

    Exempt: 1-D tensors and biases (dino/utils.py:632-643), and names ending in `no_decay`
    (beit/optim_factory.py:58-71). Unless named there, positions and tokens are decayed.
    """
    layers = Layers.of(method) if config.layer_decay != 1 else None
    if layers is None and config.layer_decay != 1:
        raise UserError(
            f"optim.layer_decay={config.layer_decay:g} needs a backbone to be trained, and "
            f"{type(method).__name__} trains none; set optim.layer_decay=1."
        )
    keys = [(0, False), (0, True)] if layers is None else []
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {key: [] for key in keys}
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = parameter.ndim <= 1 or name.endswith((".bias", *config.no_decay))
        layer = layers.layer(name) if layers else 0
        groups.setdefault((layer, exempt), []).append(parameter)
    options: list[dict[str, Any]] = [
        {
            "params": groups[layer, exempt],
            **({"weight_decay": 0.0} if exempt else {}),
            SCALE: layers.scale(layer, config.layer_decay) if layers else 1.0,
            EXEMPT: exempt,
        }
        for layer, exempt in sorted(groups)
    ]
    return torch.optim.AdamW(options, lr=0.0, betas=config.betas, eps=1e-8, fused=True)


def set_schedules(
    optimizer: torch.optim.Optimizer, progress: Progress, optim: OptimConfig, train: TrainConfig
) -> tuple[float, float]:
    """Writes this step's lr, scaled, and weight decay, where it applies; returns them unscaled."""
    peak, total, step = peak_lr(optim, train), progress.total_steps, progress.step
    if optim.schedule == "epoch":
        lr = epoch_schedule(
            progress.epoch, train.epochs, peak, optim.min_lr, optim.warmup_epochs, optim.warmup_lr
        )
    else:
        warmup = int(optim.warmup_epochs * progress.steps_per_epoch)
        lr = cosine_schedule(step, total, peak, optim.min_lr, warmup, optim.warmup_lr)
    decay = cosine_schedule(step, total, optim.weight_decay, optim.weight_decay_end)
    for number, group in enumerate(optimizer.param_groups):
        # a checkpoint of an older version brings two groups without these keys
        group["lr"] = lr * group.get(SCALE, 1.0)
        if not group.get(EXEMPT, number > 0):
            group["weight_decay"] = decay
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
