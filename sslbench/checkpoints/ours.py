"""Files of weights that sslbench wrote, whose card is believed only where it fits the tensors."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sslbench.backbones.config import BackboneConfig
from sslbench.errors import UserError
from sslbench.result import IDENTIFIED, ModelCard
from sslbench.storage.weights import read_weights, weights_sha256

# how to evaluate a model, as `convert` writes it beside its card
EVALUATED_BY = ("poolings", "image_size", "mean", "std")


def read_checked(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and card of a file of safetensors; {} for a card where others wrote it.

    The SHA-256 that a card names is computed over the tensors as they were read. Raises UserError
    where it is another one.
    """
    tensors, card = read_weights(path)
    if "sha256" in card and card["sha256"] != weights_sha256(tensors):
        raise UserError(
            f"{path} is damaged or its weights were replaced: they do not match the SHA-256 in its "
            "card; restore the file or make it anew."
        )
    return tensors, card


def converted_card(said: Any, path: Path) -> dict[str, Any]:
    """What `convert` says of a file: `EVALUATED_BY`, its model's card, and what is `known`.

    Raises UserError where that is damaged or of a newer version.
    """
    try:
        if said["model"].get("identified", "") not in IDENTIFIED:
            raise ValueError("it is identified by nothing that is known")
        names = {f.name for f in fields(ModelCard)}
        model = ModelCard(**{k: v for k, v in said["model"].items() if k in names})
        if newer := said["model"].keys() - names:
            raise UserError(
                f"the card in {path} was written by a newer version of sslbench (it says "
                f"{min(newer)!r}); update sslbench."
            )
        facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
        return {name: facts[name] for name in EVALUATED_BY} | {
            "model": replace(model, source="", label="", file_sha256=""),
            "known": {
                "norm_eps": float(facts["norm_eps"]),
                "resampling": str(facts.get("resampling", BackboneConfig.resampling)),
            },
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the card in {path} is damaged; convert its source again.") from error
