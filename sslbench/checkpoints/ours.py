"""Reads files of weights that sslbench wrote; a card is believed only if it fits the tensors."""

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
    """Tensors and card of a file of safetensors; the card is {} if others wrote the file.

    Raises UserError where the tensors do not have the SHA-256 that the card names.
    """
    tensors, card = read_weights(path)
    if "sha256" in card and card["sha256"] != weights_sha256(tensors):
        raise UserError(
            f"{path} is damaged or its weights were replaced: they do not match the SHA-256 in its "
            "card; restore the file or make it anew."
        )
    return tensors, card


def converted_card(card: Any, path: Path) -> dict[str, Any]:
    """What `convert` says of a file: `EVALUATED_BY`, its model's card, and what is `known`.

    Raises UserError where that is damaged or of a newer version.
    """
    try:
        if card["model"].get("identified", "") not in IDENTIFIED:
            raise ValueError("it is identified by nothing that is known")
        names = {f.name for f in fields(ModelCard)}
        model = ModelCard(**{k: v for k, v in card["model"].items() if k in names})
        if newer := card["model"].keys() - names:
            raise UserError(
                f"the card in {path} was written by a newer version of sslbench (it says "
                f"{min(newer)!r}); update sslbench."
            )
        facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in card.items()}
        return {name: facts[name] for name in EVALUATED_BY} | {
            "model": replace(model, source="", label="", file_sha256=""),
            "known": {
                "norm_eps": float(facts["norm_eps"]),
                "resampling": str(facts.get("resampling", BackboneConfig.resampling)),
            },
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the card in {path} is damaged; convert its source again.") from error
