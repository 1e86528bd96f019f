"""Weights in safetensors, with a card that describes them and is protected by a checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sslbench.errors import UserError
from sslbench.storage.files import check_regular, parse_json, utf8_name, write_atomically

CARD_SHA256 = "card_sha256"
MAX_HEADER_BYTES = 2**24  # of safetensors; a thousand tensors need 100,000


def save_weights(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> str:
    """Write safetensors with `card` and its checksum; return the SHA-256 of the weights."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    sha = weights_sha256(plain)
    metadata = {"sslbench": json.dumps(_sealed({**card, "sha256": sha}))}
    write_atomically(path, lambda p: save_file(plain, p, metadata))
    return sha


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and card of a file that `save_weights` wrote; UserError if it is damaged."""
    with opened_weights(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, _card(file, path)


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the card alone, {} if the file has none; UserError if the file is damaged."""
    with opened_weights(path) as file:
        return _card(file, path)


@contextlib.contextmanager
def opened_weights(path: Path) -> Iterator[Any]:
    """Open a safetensors file; UserError if it is damaged, also while it is read.

    The library checks the sizes of tensors but accepts a header of any length.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > MAX_HEADER_BYTES:
                raise OSError("its header is too long")
        with utf8_name(path) as name, safe_open(name, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        detail = f" ({error})" if str(error) else ""
        raise UserError(
            f"weights {path} are truncated or damaged{detail}; create them again."
        ) from error


def _card(file: Any, path: Path) -> dict[str, Any]:
    try:
        card = parse_json((file.metadata() or {}).get("sslbench", "{}"))
    except ValueError:
        card = None
    if not isinstance(card, dict):
        raise UserError(f"the card in {path} is damaged; create the weights again.")
    checksum = card.pop(CARD_SHA256, None)  # older versions wrote none
    if checksum is not None and checksum != _sealed(card)[CARD_SHA256]:
        raise UserError(
            f"the card in {path} was changed after it was written, so it may not describe these "
            "weights; restore the file or create it again."
        )
    return card


def _sealed(card: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(json.loads(json.dumps(card)), sort_keys=True)  # all keys become strings
    return {**card, CARD_SHA256: hashlib.sha256(text.encode()).hexdigest()}


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the hash of the tensors' names, shapes, types and bytes, whatever file they are in."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def contents_sha256(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """Return a hash of the tensors and of the texts `about` stored with them."""
    text = json.dumps([weights_sha256(tensors), dict(about)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
