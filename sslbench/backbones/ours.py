"""Files of weights that sslbench wrote, whose card is believed only where it fits the tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from sslbench.errors import UserError
from sslbench.training.checkpoint import read_weights, weights_sha256


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
