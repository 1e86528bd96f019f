"""What no single setting can say: whether a recipe's settings go together, and what is too late."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.recipes.recipe import Recipe, peak_lr

if TYPE_CHECKING:
    from sslbench.method import Method


def check(recipe: Recipe, method_class: type[Any]) -> None:
    """Raises UserError where settings contradict each other or nothing can be trained.

    method_class: a `Method`, or a `Tokenizer` that is none.
    """
    from sslbench.backbones.build import check_backbone
    from sslbench.method import Method
    from sslbench.tokenizer import Tokenizer

    if issubclass(method_class, Tokenizer) and not issubclass(method_class, Method):
        raise UserError(
            f"the tokenizer {recipe.method_name!r} is not trained here; convert the published one "
            "with `sslbench tokenizer convert FILE --out DIR`, or train one of another --kind."
        )
    train, optim, backbone = recipe.train, recipe.optim, recipe.backbone
    peak = peak_lr(optim, train)
    check_backbone(backbone)
    if optim.min_lr > max(optim.lr, peak):
        raise UserError(
            f"optim.min_lr={optim.min_lr:g} is above the peak learning rate of "
            f"{peak:g}, so the rate would rise to the end; lower optim.min_lr or raise optim.lr."
        )
    if train.batch_size % train.accumulate:
        raise UserError(
            f"train.batch_size={train.batch_size} cannot be shared by train.accumulate="
            f"{train.accumulate} micro-batches; take a multiple of {train.accumulate}."
        )
    try:
        method_class.views(recipe.method, backbone.stride)  # refuses crops that do not fit
    except ValueError as error:
        raise UserError(f"the views of {recipe.method_name!r}: {error}.") from error


def warnings(recipe: Recipe, group: str = plugins.METHODS) -> list[str]:
    """Warnings about settings that the run will not reach."""
    method_class: type[Method] = plugins.load(group, recipe.method_name)
    sentences = [*_schedules(recipe), *method_class.unreached(recipe.method, recipe.train.epochs)]
    return [f"warning: {sentence}." for sentence in sentences]


def _schedules(recipe: Recipe) -> Iterator[str]:
    optim, epochs = recipe.optim, recipe.train.epochs
    peak = peak_lr(optim, recipe.train)
    if optim.warmup_epochs > epochs:
        yield (
            f"optim.warmup_epochs={optim.warmup_epochs:g} is longer than train.epochs={epochs:g}: "
            f"the learning rate never reaches its peak of {peak:g}"
        )
    # of the schedule per epoch, the last value is that of two epochs before the end
    elif optim.schedule == "epoch" and optim.warmup_epochs > max(0.0, math.ceil(epochs) - 2):
        yield (
            f"optim.warmup_epochs={optim.warmup_epochs:g} does not end within train.epochs="
            f"{epochs:g}, since optim.schedule='epoch' is an epoch late: the learning rate never "
            f"reaches its peak of {peak:g}"
        )
    if optim.warmup_lr > peak:
        yield (
            f"optim.warmup_lr={optim.warmup_lr:g} is above the peak of {peak:g}: the learning rate "
            "falls during the warm-up"
        )
    if optim.warmup_lr and not optim.warmup_epochs:
        yield f"optim.warmup_lr={optim.warmup_lr:g} has no effect with optim.warmup_epochs=0"
    if peak < optim.min_lr:
        yield (
            f"optim.min_lr={optim.min_lr:g} is above the peak of {peak:g} that optim.lr="
            f"{optim.lr:g} comes to with train.batch_size={recipe.train.batch_size}: the learning "
            "rate rises to the end"
        )
    if optim.weight_decay_end < optim.weight_decay:
        yield (
            f"optim.weight_decay_end={optim.weight_decay_end:g} is below optim.weight_decay="
            f"{optim.weight_decay:g}: the decay falls from there"
        )
