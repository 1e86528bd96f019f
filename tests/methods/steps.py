"""Steps of the trainer beside the published ones, whose every part is written anew in float64.

The order is `dino/main_dino.py:306-350`: schedules, forward, backward, clip, cancel, AdamW, EMA.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sslbench.backbones.base import Tokens
from sslbench.backbones.config import BackboneConfig
from sslbench.method import Method, ViewBatch
from sslbench.recipes.recipe import OptimConfig, Recipe, TrainConfig
from sslbench.system.distributed import World
from sslbench.testing.one_step import take_step
from sslbench.training.optim import make_optimizer
from sslbench.training.run import Run
from tests.methods.reference import (
    crossed,
    mean_entropy,
    normalised,
    project,
    prototypes,
    sharpen,
    slopes,
    worst,
)

TOTAL = 4  # steps of the whole run, one an epoch
OPTIM = {"lr": 0.8, "min_lr": 1e-3, "warmup_epochs": 2.0, "clip": 0.02}


def make_run(method: Method, batch_size: int, **optim) -> Run:
    """`method` as the trainer runs it, at its published clipping, decay and schedules."""
    recipe = Recipe(
        "small",
        method.name,
        method.config,
        BackboneConfig(),
        optim=OptimConfig(**OPTIM | optim),
        train=TrainConfig(batch_size=batch_size, precision="fp32"),
    )
    world = World(0, 1, torch.device("cpu"))
    optimizer = make_optimizer(method, recipe.optim)
    return Run(recipe, Path(), world, None, method, method, optimizer, TOTAL, 1)


def schedule(base: float, final: float, warmup: int = 0) -> np.ndarray:
    """dino/utils.py:187-198: the warm-up has both its ends, the cosine only its first."""
    steps = np.arange(TOTAL - warmup)
    cosine = final + 0.5 * (base - final) * (1 + np.cos(np.pi * steps / len(steps)))
    return np.concatenate([np.linspace(0, base, warmup), cosine])


class Twin:
    """A float64 copy of a method, of which only the backbones' forward passes are used."""

    def __init__(self, run: Run, lr_scale: Callable[[str], float] = lambda name: 1.0) -> None:
        """lr_scale: of a parameter by name, where layers learn at different rates."""
        self.lr_scale = lr_scale
        optim, scale = run.recipe.optim, run.recipe.train.batch_size / 256
        self.optim, self.config = optim, run.method.config
        self.model = copy.deepcopy(run.method).double()
        self.student = getattr(self.model, "student", None)
        self.teacher = getattr(self.model, "teacher", None)
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        peak = optim.lr * scale if optim.scale_lr else optim.lr
        self.lr = schedule(peak, optim.min_lr, int(optim.warmup_epochs))
        self.decay = schedule(optim.weight_decay, optim.weight_decay_end)
        names = [n for n in ("centre", "patch_centre") if hasattr(run.method, n)]
        self.centres = {n: getattr(run.method, n).value.double().clone() for n in names}
        self.seen: dict[str, Tensor] = {}
        self.moments: dict[str, tuple[int, Tensor, Tensor]] = {}
        self.clipped: set[bool] = set()

    def gradients(self) -> dict[str, Tensor]:
        """Those the optimiser gets, as `slopes` names them."""
        return {n: p.grad for n, p in self.trained.items() if p.grad is not None}

    def clip(self, step: int) -> None:
        """Clips by tensor or globally, then drops the gradients of prototypes that are frozen."""
        norms = {n: g.pow(2).sum().sqrt() for n, g in self.gradients().items()}
        if self.optim.clip_by == "global":
            total = sum(norm**2 for norm in norms.values()) ** 0.5
            norms = dict.fromkeys(norms, total)
        for name, norm in norms.items():
            scale = self.optim.clip / (norm + 1e-6)
            self.clipped.add(bool(scale < 1))
            if scale < 1:
                self.trained[name].grad *= scale
        for name, p in self.trained.items():
            if step < getattr(self.config, "freeze_last_layer", 0) and "last_layer" in name:
                p.grad = None

    @torch.no_grad()
    def update(self, step: int) -> None:
        """AdamW (arXiv:1711.05101, algorithm 2), the teacher's EMA by name, the centres'."""
        for name, g in self.gradients().items():
            p = self.trained[name]
            t, m, v = self.moments.get(name, (0, torch.zeros_like(p), torch.zeros_like(p)))
            t, m, v = t + 1, 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            self.moments[name] = (t, m, v)
            exempt = p.ndim == 1 or name.endswith((".bias", *self.optim.no_decay))
            change = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            p -= (
                self.lr[step]
                * self.lr_scale(name)
                * (change + (0 if exempt else self.decay[step]) * p)
            )
            p.grad = None
        if self.teacher is None:
            return
        momentum = schedule(self.config.momentum, 1.0)[step]
        source = dict(self.student.named_parameters())
        for name, p in self.teacher.named_parameters():
            p.copy_(momentum * p + (1 - momentum) * source[name])
        for name, logits in self.seen.items():
            mean = logits.flatten(0, -2).mean(0)
            self.centres[name] = 0.9 * self.centres[name] + 0.1 * mean


def cls_term(twin: Twin, students: list[Tensor], targets: list[Tensor]) -> Tensor:
    pairs = [(q, v) for q in range(len(targets)) for v in range(len(students)) if q != v]
    return sum(crossed(students[v], targets[q]).mean() for q, v in pairs) / len(pairs)


def dino_step(twin: Twin, batch: ViewBatch, tau: float) -> dict[str, Tensor]:
    """DINO's forward: every view goes through the backbone by itself, all together through the
    head (`MultiCropWrapper`, dino/utils.py:594-629)."""

    def cls_logits(network: nn.ModuleDict, views: list[Tensor]) -> tuple[Tensor, ...]:
        head, cls = network["head"], torch.cat([network["backbone"](view).cls for view in views])
        return prototypes(head.last_layer, project(head, cls)).chunk(len(views))

    crops = list(normalised(batch, "global"))
    raw = torch.stack(cls_logits(twin.teacher, crops)).detach()
    targets = [sharpen(logits, twin.centres["centre"], tau) for logits in raw]
    local = list(normalised(batch, "local")) if "local" in batch.crops else []
    students = cls_logits(twin.student, crops + local)
    twin.seen = {"centre": raw}
    return {
        "loss": cls_term(twin, students, targets),
        "teacher_entropy": mean_entropy(torch.stack(targets)),
    }


def token_logits(network: nn.ModuleDict, tokens: list[Tokens]) -> tuple[list[Tensor], Tensor]:
    """[CLS] logits (B, K) of every view and patch logits (V, B, N, K), all tokens of all views in
    one call of the head (`iBOTHead.forward`, ibot/models/head.py:176-199)."""
    head = network["head"]
    x = torch.stack([torch.cat([t.cls[:, None], t.patches], 1) for t in tokens])
    unit = project(head, x.flatten(0, 2)).unflatten(0, x.shape[:3])
    second = head.last_layer if head.last_layer2 is None else head.last_layer2
    return list(prototypes(head.last_layer, unit[:, :, 0])), prototypes(second, unit[:, :, 1:])


def ibot_step(twin: Twin, batch: ViewBatch, tau: float, patch_tau: float) -> dict[str, Tensor]:
    """iBOT's forward (ibot/main_ibot.py:403-412); the MIM loss image by image over logits of *all*
    patches; the local crops take a call of the head of their own."""
    crops, masks = normalised(batch, "global"), batch.masks["global"]
    raw, raw_patches = token_logits(twin.teacher, [*map(twin.teacher["backbone"], crops)])
    raw, raw_patches = torch.stack(raw).detach(), raw_patches.detach()
    targets = [sharpen(x, twin.centres["centre"], tau) for x in raw]
    patch_targets = sharpen(raw_patches, twin.centres["patch_centre"], patch_tau)
    see = twin.student["backbone"]
    students, patches = token_logits(twin.student, [*map(see, crops, masks)])
    if "local" in batch.crops:
        students += token_logits(twin.student, [*map(see, normalised(batch, "local"))])[0]
    losses = []
    for v, b in product(range(len(crops)), range(len(batch))):
        hidden = masks[v, b].flatten()
        each = crossed(patches[v, b], patch_targets[v, b])
        losses.append((each * hidden).sum() / max(1, int(hidden.sum())))
    cls, patch = cls_term(twin, students, targets), torch.stack(losses).mean()
    twin.seen = {"centre": raw, "patch_centre": raw_patches}
    return {
        "loss": cls + patch,
        "loss_cls": cls,
        "loss_patch": patch,
        "teacher_entropy": mean_entropy(torch.stack(targets)),
        "masked": masks.double().mean(),
    }


def march(
    run: Run,
    batches: list[ViewBatch],
    step: Callable[[Twin, ViewBatch, int], dict[str, Tensor]],
    scale: Callable[[str], float] = lambda name: 1.0,
) -> dict[str, float]:
    """Steps the trainer and its twin over `batches`; the largest relative error of each kind."""
    method, twin, errors = run.method, Twin(run, scale), {}
    taken: dict[str, Tensor] = {}  # what the optimiser gets
    run.optimizer.register_step_pre_hook(lambda *_: taken.update(slopes(method)))

    def note(kind: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
        errors[kind] = max(errors.get(kind, 0.0), worst(ours, theirs))

    for i, batch in enumerate(batches):
        expected = step(twin, batch, i)
        expected["loss"].backward()
        twin.clip(i)
        taken.clear()
        values = take_step(run, [batch], i).values
        note("values", {k: values[k] for k in expected}, expected)
        note("gradients", taken, twin.gradients())
        twin.update(i)
        ours, theirs = (dict(m.named_parameters()) for m in (method, twin.model))
        for name in ("student", "teacher"):
            trained = {k for k in ours if (k in twin.trained) == (name == "student")}
            if trained:
                note(name, *({k: w[k] for k in trained} for w in (ours, theirs)))
        if twin.centres:
            note("centres", {k: getattr(method, k).value for k in twin.centres}, twin.centres)
    assert True in twin.clipped, "the limit is too high to test anything"
    return errors
