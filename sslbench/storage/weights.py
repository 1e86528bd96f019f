"""Weights in safetensors, with a card that says what they are and cannot be changed unnoticed."""

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
LONGEST_HEADER = 2**24  # bytes, of safetensors; that of a thousand tensors has 100,000


def save_weights(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> str:
    """Writes safetensors with `card` and a checksum of it; returns the weights' sha256."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    sha = weights_sha256(plain)
    metadata = {"sslbench": json.dumps(_sealed({**card, "sha256": sha}))}
    write_atomically(path, lambda p: save_file(plain, p, metadata))
    return sha


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and card of a file `save_weights` wrote; UserError if it is damaged."""
    with opened_weights(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, _card(file, path)


def read_metadata(path: Path) -> dict[str, Any]:
    """The card alone, {} if there is none; UserError if the file is damaged."""
    with opened_weights(path) as file:
        return _card(file, path)


@contextlib.contextmanager
def opened_weights(path: Path) -> Iterator[Any]:
    """A file of safetensors; UserError if it or what is read of it is damaged.

    The library holds tensors to the file's size, but takes a header of any length.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > LONGEST_HEADER:
                raise OSError("its header does not end")
        with utf8_name(path) as name, safe_open(name, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        detail = f" ({error})" if str(error) else ""
        raise UserError(
            f"weights {path} are truncated or damaged{detail}; make them anew."
        ) from error


def _card(file: Any, path: Path) -> dict[str, Any]:
    try:
        card = parse_json((file.metadata() or {}).get("sslbench", "{}"))
    except ValueError:
        card = None
    if not isinstance(card, dict):
        raise UserError(f"the card in {path} is damaged; make the weights anew.")
    given = card.pop(CARD_SHA256, None)  # older versions wrote none
    if given is not None and given != _sealed(card)[CARD_SHA256]:
        raise UserError(
            f"the card in {path} was changed after it was written, so nobody knows what the "
            "weights are; restore the file or make it anew."
        )
    return card


def _sealed(card: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(json.loads(json.dumps(card)), sort_keys=True)  # keys are texts then
    return {**card, CARD_SHA256: hashlib.sha256(text.encode()).hexdigest()}


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash over names, shapes, types and bytes of the tensors, whatever the file around them."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def contents_sha256(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """`weights_sha256` together with the texts that a file of tensors holds beside them."""
    both = json.dumps([weights_sha256(tensors), dict(about)], sort_keys=True)
    return hashlib.sha256(both.encode()).hexdigest()
