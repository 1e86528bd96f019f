"""Weights of a run, with the card that says what they are: of its end, or of any checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
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
    """A method after `steps` steps; data: name and fingerprint of what it was trained on."""

    recipe: Recipe
    method: Method
    steps: int
    steps_per_epoch: int
    data: str
    data_fingerprint: str


def export(trained: Trained, path: Path) -> None:
    """Writes what is evaluated (the teacher's backbone where there is one) and its head."""
    method = trained.method
    tensors = {f"backbone.{k}": v for k, v in method.backbone().state_dict().items()}
    if (head := method.head()) is not None:
        tensors |= {f"head.{k}": v for k, v in head.state_dict().items()}
    weights.save_weights(path, tensors, card(trained))


def card(trained: Trained) -> dict[str, Any]:
    """What the weights are."""
    recipe, method = trained.recipe, trained.method
    epochs = trained.steps / trained.steps_per_epoch
    seen = method.image_tokens(recipe.method, recipe.backbone.stride)
    return {
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
    """Where the weights of a run that goes on lie."""
    return folder / f"weights-step{step:07d}.safetensors"


def export_run(folder: Path, path: Path | None = None) -> Path:
    """Writes the weights of a run's newest checkpoint; it may be running.

    path: where to; unset, `at_step` of the checkpoint. A file that exists is left alone. Raises
    UserError where there is no sound checkpoint.
    """
    recipe, group = stored_recipe(folder)
    state = checkpoint.load_state(folder, kept_settings(recipe), PARTS, repair=False)
    path = path or at_step(folder, state["step"])
    if path.exists():
        return path
    if "steps_per_epoch" not in state:
        raise UserError(
            f"the checkpoint of {folder} is of an older version and does not say what its weights "
            "are; go on with it for a step (pretrain --resume) or start it anew."
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
        ),
        path,
    )
    return path
