"""The promises of a method about one optimiser step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.method import Progress, ViewBatch
from sslbench.recipes.recipe import Recipe
from sslbench.system.distributed import World
from sslbench.testing.one_step import take_step
from sslbench.testing.promises import promise, promised
from sslbench.training.run import Run, load_views, set_up

ALONE = World(0, 1, torch.device("cpu"))
TOLERANCE = 1e-3  # relative, of gradients in float32 that are summed in another order


def check_steps(recipe: Recipe, folder: Path) -> None:
    """Loss, gradients, micro-batches, skipped steps, `after_step`, state and backbone."""
    with promised("a method can be built from its config and make_backbone"):
        run = set_up(recipe, folder, ALONE)
    check_loss(run)
    check_seed(recipe, folder)
    check_batch(recipe, folder)
    check_skipped(recipe, folder)
    check_moves(recipe, folder)
    check_head(run)


def micro_batches(run: Run) -> list[ViewBatch]:
    """The micro-batches of the first step."""
    batches = iter(load_views(run, 0))
    return [next(batches)[0] for _ in range(run.recipe.train.accumulate)]


def check_loss(run: Run) -> None:
    """The loss is a finite scalar with a gradient; all values are finite scalars."""
    with promised("`loss(batch, progress)` returns a dict of scalars"):
        values = run.method.loss(micro_batches(run)[0], run.progress(0))
    promise(
        isinstance(values, Mapping) and "loss" in values, 'the dict of `loss` has the key "loss"'
    )
    for key, value in values.items():
        promise(
            isinstance(value, Tensor) and value.ndim == 0,
            f"every value of `loss` is a scalar tensor; {key!r} is not",
        )
        promise(
            bool(torch.isfinite(value)), f"every value of `loss` is finite; {key!r} is {value:g}"
        )
    promise(values["loss"].requires_grad, '"loss" has a gradient')
    parameters = {id(p) for p in run.method.parameters()}
    promise(
        all(id(p) in parameters for p in run.method.frozen(run.progress(0))),
        "`frozen` returns parameters of the method",
    )
    missing = [key for key in run.method.health() if key not in values]
    promise(
        not missing, f"`health` names values that `loss` returns; {', '.join(missing)} is not there"
    )


def check_seed(recipe: Recipe, folder: Path) -> None:
    """Equal seeds give equal losses, and so does a state that was saved and loaded."""
    losses = []
    for _ in range(2):
        run = set_up(recipe, folder, ALONE)
        losses.append(_loss(run))
    promise(torch.equal(*losses), "the same seed gives the same loss, bit for bit")
    other = set_up(_changed(recipe, seed=1), folder, ALONE)
    fresh = set_up(recipe, folder, ALONE)
    with promised("`state_dict` can be loaded into a new method"):
        other.method.load_state_dict(fresh.method.state_dict())
    loaded = replace(other, recipe=recipe)
    promise(
        torch.equal(_loss(loaded), losses[0]),
        "`state_dict` holds everything that the loss depends on: a method with another seed "
        "gives the same loss after loading it",
    )


def check_batch(recipe: Recipe, folder: Path) -> None:
    """Two micro-batches give the gradient of the whole batch unless `needs_whole_batch` says no."""
    recipe = replace(recipe, optim=replace(recipe.optim, clip=0.0))
    run = set_up(recipe, folder, ALONE)
    if run.method.needs_whole_batch(recipe.method):
        return
    parts = set_up(_changed(recipe, accumulate=2), folder, ALONE)
    whole, halves = (_gradients(r) for r in (run, parts))
    distance = torch.linalg.vector_norm(whole - halves) / torch.linalg.vector_norm(whole)
    promise(
        bool(distance <= TOLERANCE),
        f"two micro-batches give the gradient of the whole batch (it is off by {distance:.1%}); "
        "if something ties the images of a batch together, `needs_whole_batch` names it",
    )


def check_skipped(recipe: Recipe, folder: Path) -> None:
    """A skipped step leaves nothing behind."""
    skipped, plain = (set_up(recipe, folder, ALONE) for _ in range(2))
    with promised("`after_step(progress)` follows a step whose loss is not finite"):
        take_step(replace(skipped, model=NotFinite(skipped.model)), micro_batches(skipped), 0)
    for run in (skipped, plain):
        with promised("`after_step(progress)` follows each optimiser step"):
            take_step(run, micro_batches(run), 0)
    promise(
        same_state(skipped.method, plain.method),
        "what a step moves is in buffers and parameters, which are put back after a skipped step: "
        "the next one ends in the same state",
    )


def check_moves(recipe: Recipe, folder: Path) -> None:
    """Steps move what `backbone()` exports, which is a backbone."""
    run = set_up(recipe, folder, ALONE)
    with promised("`backbone()` returns what is exported"):
        backbone = run.method.backbone()
    promise(
        isinstance(backbone, Backbone),
        f"`backbone()` returns a Backbone, not {type(backbone).__name__}",
    )
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    for step in range(2):
        take_step(run, micro_batches(run), step)
    after = run.method.backbone().state_dict()
    promise(
        any(not torch.equal(value, after[name]) for name, value in before.items()),
        "training moves what `backbone()` exports, itself or, in `after_step`, by its student",
    )


def check_head(run: Run) -> None:
    """`head()` maps (B, D) to (B, K)."""
    if (head := run.method.head()) is None:
        return
    width = run.method.backbone().embed_dim
    with promised("`head()` maps a [CLS] token (B, D) to (B, K)"), torch.no_grad():
        out = head.eval()(torch.zeros(3, int(width)))  # type: ignore[arg-type]
        promise(out.ndim == 2 and len(out) == 3, f"`head()` returns (B, K), not {(*out.shape,)}")


def same_state(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules hold the same values, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _changed(recipe: Recipe, **train: Any) -> Recipe:
    return replace(recipe, train=replace(recipe.train, **train))


class NotFinite(nn.Module):
    """A model whose loss is NaN, so that the trainer skips the step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        values = self.model(batch, progress)
        return {**values, "loss": values["loss"] * torch.nan}


def _loss(run: Run) -> Tensor:
    """The loss of the first step, which is taken."""
    return take_step(run, micro_batches(run), 0).values["loss"]


def _gradients(run: Run) -> Tensor:
    """All gradients of the first step, as the optimiser is given them."""
    gradients: list[Tensor] = []

    def keep(*_: Any) -> None:
        parameters = run.method.parameters()
        gradients.extend(p.grad.flatten().clone() for p in parameters if p.grad is not None)

    run.optimizer.register_step_pre_hook(keep)
    take_step(run, micro_batches(run), 0)
    promise(gradients, "the loss reaches a parameter")
    return torch.cat(gradients)
