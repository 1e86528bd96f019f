"""Writes a run's weights with the card that describes them, at its end or from any checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sslbench import plugins
from sslbench.checkpoints.modules import needed_identity
from sslbench.errors import UserError
from sslbench.method import Method
from sslbench.recipes.identity import kept_settings
from sslbench.recipes.recipe import Recipe
from sslbench.storage import checkpoint, weights
from sslbench.training.build import build_method
from sslbench.training.stored import stored_recipe

PARTS = ("step", "method")


@dataclass(frozen=True)
class Trained:
    """A method after `steps` steps.

    data: name and fingerprint of what it was trained on; started_from: what records say of the
    weights that it started from.
    """

    recipe: Recipe
    method: Method
    steps: int
    steps_per_epoch: int
    data: str
    data_fingerprint: str
    started_from: Mapping[str, Any] = field(default_factory=dict)


def export(trained: Trained, path: Path) -> None:
    """Writes the backbone that is evaluated (the teacher's, if there is one) and its heads."""
    method = trained.method
    tensors = {f"backbone.{k}": v for k, v in method.backbone().state_dict().items()}
    if (head := method.head()) is not None:
        tensors |= {f"head.{k}": v for k, v in head.state_dict().items()}
    if (classifier := method.trained_classifier()) is not None:
        tensors |= {f"classifier.{k}": v for k, v in classifier.state_dict().items()}
    weights.save_weights(path, tensors, card(trained))


def card(trained: Trained) -> dict[str, Any]:
    """The metadata of the weights, from which they are identified when loaded."""
    recipe, method = trained.recipe, trained.method
    epochs = trained.steps / trained.steps_per_epoch
    seen = method.image_tokens(recipe.method, recipe.backbone.stride)
    start = {"started_from": dict(trained.started_from)} if trained.started_from else {}
    return {
        **start,
        "recipe": recipe.to_dict(),
        "data": trained.data,
        "data_fingerprint": trained.data_fingerprint,
        "needs": {
            name: needed_identity(source, plugins.group_of(name))
            for name, source in recipe.needs.items()
        },
        "steps": trained.steps,
        "epochs": epochs,
        "effective_epochs": method.effective_epochs(recipe.method, epochs),
        "tokens": trained.steps * recipe.train.batch_size * seen / 1e9,
    }


def at_step(folder: Path, step: int) -> Path:
    """The path of the weights after `step` steps of a run that has not ended."""
    return folder / f"weights-step{step:07d}.safetensors"


def export_due(recipe: Recipe, step: int, steps_per_epoch: int) -> bool:
    """Whether weights are written after this step, besides those at the end."""
    interval = recipe.run.export_every
    return interval > 0 and step % max(1, round(interval * steps_per_epoch)) == 0


def export_run(folder: Path, path: Path | None = None) -> Path:
    """Writes the weights of a run's newest checkpoint and returns their path; it may be running.

    path: unset, `at_step` of the checkpoint. A file that exists is left alone. Raises UserError
    if there is no sound checkpoint.
    """
    recipe, group = stored_recipe(folder)
    state = checkpoint.load_state(folder, kept_settings(recipe), PARTS, repair=False)
    path = path or at_step(folder, state["step"])
    if path.exists():
        return path
    if "steps_per_epoch" not in state:
        raise UserError(
            f"the checkpoint of {folder} is of an older version and does not say what its weights "
            "are; resume the run for a step (pretrain --resume) or start it anew."
        )
    method = build_method(recipe, group)
    checkpoint.fill(folder, state, {"method": method})
    export(
        Trained(
            recipe,
            method,
            state["step"],
            state["steps_per_epoch"],
            state["data"],
            state["content"],
            state.get("started_from", {}),
        ),
        path,
    )
    return path
