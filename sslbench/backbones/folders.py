"""Folders of weights as Hugging Face lays them out: a file or its shards, with their settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sslbench.backbones.config import SIZES, SWINS, BackboneConfig
from sslbench.backbones.files import SUFFIXES, is_safetensors, not_weights, suffix
from sslbench.backbones.pickles import read_pickle
from sslbench.backbones.provenance import HALF, numbers
from sslbench.config import IMAGENET_MEAN, IMAGENET_STD
from sslbench.errors import UserError
from sslbench.training.checkpoint import read_weights

INDEX = ".index.json"
MAIN = tuple(f"{name}{end}" for name in ("model.safetensors", "pytorch_model.bin")
             for end in ("", INDEX))  # fmt: skip
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
LARGEST = {CONFIG: 2**20, PREPROCESSOR: 2**20}  # bytes; an index may be larger
LARGEST_INDEX = 2**24
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
# model_type -> method that it tells, eps of LayerNorms and statistics where nothing says them
MODELS: dict[str, tuple[str, float, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "vit": ("", 1e-12, (HALF, HALF)),
    "deit": ("deit", 1e-12, IMAGENET),
    "dinov2": ("dinov2", 1e-6, IMAGENET),
    "dinov2_with_registers": ("dinov2", 1e-6, IMAGENET),
    "beit": ("beit", 1e-12, (HALF, HALF)),
    "vit_mae": ("mae", 1e-12, IMAGENET),
    "swin": ("", 1e-5, IMAGENET),
}


@dataclass(frozen=True)
class Settings:
    """What the settings beside a file say of a network; empty where they say nothing.

    norm_eps: of its LayerNorms; heads: of its blocks or stages; width: of the first of them. usual:
    mean and std that are transformers' default for it.
    """

    method: str = ""
    norm_eps: float | None = None
    image_size: int | None = None
    heads: tuple[int, ...] = ()
    width: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    usual: tuple[tuple[float, ...], ...] = ()


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


def settings_beside(path: Path) -> Settings:
    """What config.json and preprocessor_config.json say of a file with a name of `MAIN`.

    Of any other file they may be another's. Raises UserError where they are damaged or describe a
    network that cannot be built here.
    """
    file = path.parent / CONFIG
    if path.name not in MAIN or not file.is_file():
        return Settings()
    said = read_json(file, LARGEST[CONFIG])
    if isinstance(timms := said.get("pretrained_cfg"), dict):
        return Settings(
            mean=numbers("mean", timms.get("mean")), std=numbers("std", timms.get("std"))
        )
    kind = said.get("model_type")
    if kind is None:
        return Settings()
    if not isinstance(kind, str) or kind not in MODELS:
        raise UserError(
            f"{file} says model_type {kind!r}, which is not read; known are {', '.join(MODELS)}."
        )
    if (activation := said.get("hidden_act", "gelu")) != "gelu":
        raise UserError(f"{file} says hidden_act {activation!r}; only 'gelu' can be built.")
    method, usual_eps, usual = MODELS[kind]
    eps = _number(said.get("layer_norm_eps", usual_eps), file, "layer_norm_eps")
    heads = said.get("num_heads") if kind == "swin" else said.get("num_attention_heads")
    size = said.get("image_size")
    mean, std = _statistics(path.parent / PREPROCESSOR)
    return Settings(
        method,
        eps,
        size if isinstance(size, int) else None,
        tuple(h for h in (heads if isinstance(heads, list) else [heads]) if isinstance(h, int)),
        width
        if isinstance(width := said.get("embed_dim" if kind == "swin" else "hidden_size"), int)
        else None,
        mean,
        std,
        usual,
    )


def usual_eps(names: Mapping[str, Tensor]) -> float:
    """transformers' default eps for the network with these official names."""
    swin = any("downsample." in name for name in names)
    scaled = any(name.endswith(".ls1.gamma") for name in names)
    return MODELS["swin" if swin else "dinov2" if scaled else "vit"][1]


def check_settings(beside: Settings, config: BackboneConfig, path: Path) -> None:
    """Raises UserError where the settings beside a file describe another network than it holds."""
    width, _, heads, _ = {**SIZES, **SWINS}[config.name]
    heads = heads if isinstance(heads, tuple) else (heads,)
    for name, said, found in (("heads", beside.heads, heads), ("width", beside.width, width)):
        if said and said != found:
            raise UserError(
                f"{path.parent / CONFIG} says {name} {said}, but the {config.arch} in {path.name} "
                f"has {found}; give the settings that belong to it."
            )


def read_json(path: Path, largest: int) -> dict[str, Any]:
    """The object in a file of JSON; UserError if it is none or over `largest` bytes."""
    try:
        if path.stat().st_size > largest:
            raise ValueError(f"it is larger than {largest:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is damaged ({reason}); download it again.") from error
    return found


def _number(value: Any, file: Path, name: str) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 < value < 1:
        raise UserError(f"{file} says {name} {value!r}, which must be between 0 and 1.")
    return float(value)


def _statistics(file: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std in a file of preprocessing; () where it or they are missing."""
    said = read_json(file, LARGEST[PREPROCESSOR]) if file.is_file() else {}
    if said.get("do_normalize") is False:
        return (0.0,) * 3, (1.0,) * 3
    mean, std = numbers("mean", said.get("image_mean")), numbers("std", said.get("image_std"))
    return (mean, std) if mean and std else ((), ())
