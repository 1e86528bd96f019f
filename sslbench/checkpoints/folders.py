"""Folders of weights as Hugging Face lays them out: a file, or an index and its shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sslbench.checkpoints.files import SUFFIXES, is_safetensors, not_weights, suffix
from sslbench.checkpoints.pickles import read_pickle
from sslbench.errors import UserError
from sslbench.storage.files import parse_json, read_small
from sslbench.storage.weights import read_weights

INDEX = ".index.json"
MAIN = tuple(f"{name}{end}" for name in ("model.safetensors", "pytorch_model.bin")
             for end in ("", INDEX))  # fmt: skip
LARGEST_INDEX = 2**24  # bytes


def main_file(folder: Path) -> Path | None:
    """The file of weights, or the index of its shards, in a folder; None if there is none."""
    return next((path for name in MAIN if (path := folder / name).is_file()), None)


def is_index(path: Path) -> bool:
    return path.name.endswith(INDEX)


def read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors that an index names, from the files beside it, every key accounted for.

    Raises UserError for a shard that is not there or is no plain file of the folder, and for names
    that the index and its shards do not share.
    """
    places = read_json(index, LARGEST_INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
        raise UserError(f"{index} is damaged: it has no 'weight_map'; download the folder again.")
    found: dict[str, Tensor] = {}
    for name in dict.fromkeys(places.values()):
        path = index.parent / name
        if Path(name).name != name or suffix(path) not in SUFFIXES or not path.is_file():
            raise UserError(
                f"{index} names the shard {name!r}, which is no file of weights in its folder; "
                "download the folder again."
            )
        if said := not_weights(path):
            raise UserError(f"{path} {said}.")
        tensors: Any = read_weights(path)[0] if is_safetensors(path) else read_pickle(path)
        wanted = {key for key, place in places.items() if place == name}
        if not isinstance(tensors, Mapping) or (odd := wanted ^ tensors.keys()):
            hint = (
                f": {min(map(str, odd))!r} is in one alone" if isinstance(tensors, Mapping) else ""
            )
            raise UserError(f"{path} does not fit {index.name}{hint}; download the folder again.")
        found |= tensors
    return found


def read_json(path: Path, largest: int) -> dict[str, Any]:
    """The object in a file of JSON; UserError if it is none or over `largest` bytes."""
    try:
        found = parse_json(read_small(path, largest))
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is damaged ({reason}); download it again.") from error
    return found
