"""Reads folders as Hugging Face lays them out: the shards of an index, and settings beside weights.

config.json is written by transformers or timm, preprocessor_config.json by transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from sslbench.checkpoints.families.family import IMAGENET, Statistics
from sslbench.checkpoints.families.transformers import described, fraction
from sslbench.checkpoints.files import SUFFIXES, is_safetensors, not_weights, suffix
from sslbench.checkpoints.pickles import number, read_pickle
from sslbench.checkpoints.sources import STATISTICS, sound_statistics
from sslbench.errors import UserError
from sslbench.storage.files import parse_json, read_small
from sslbench.storage.weights import read_weights

LARGEST_INDEX = 2**24  # bytes
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
LARGEST_SETTINGS = 2**20  # bytes of either
Interpolation = Literal["", "bicubic", "bilinear"]
INTERPOLATIONS = ("bicubic", "bilinear")
TIMMS_POOLS = {"token": "cls", "avg": "mean"}  # its global_pool -> our pooling
SCALE = 255.0  # a pixel's largest value, by which images are divided here


@dataclass(frozen=True)
class Settings:
    """What the settings beside a file say of a network; empty where they say nothing.

    method: of its pretraining; known: settings of its `BackboneConfig` that shapes do not tell;
    mean, std: of inputs in [0, 1]; usual: transformers' default for them; config: the whole
    config.json of transformers. reads, interpolation, crop_ratio: of a fine-tuned classifier.
    """

    method: str = ""
    known: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    usual: Statistics | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    reads: str = ""
    interpolation: Interpolation = ""
    crop_ratio: float | None = None


def read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors that an index names, from the files beside it, every key accounted for.

    Raises UserError for a shard that does not exist or is no plain file of the folder, and for
    names that the index and its shards do not share.
    """
    places = read_json(index, LARGEST_INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
        raise UserError(f"{index} is damaged: it has no 'weight_map'; download the folder again.")
    tensors: dict[str, Tensor] = {}
    for name in dict.fromkeys(places.values()):
        shard = _read_shard(index, name)
        wanted = {key for key, place in places.items() if place == name}
        if not isinstance(shard, Mapping) or (odd := wanted ^ shard.keys()):
            hint = f": {min(map(str, odd))!r} is in one alone" if isinstance(shard, Mapping) else ""
            raise UserError(
                f"{index.parent / name} does not fit {index.name}{hint}; download the folder again."
            )
        tensors |= shard
    return tensors


def _read_shard(index: Path, name: str) -> Any:
    path = index.parent / name
    if Path(name).name != name or suffix(path) not in SUFFIXES or not path.is_file():
        raise UserError(
            f"{index} names the shard {name!r}, which is no file of weights in its folder; "
            "download the folder again."
        )
    if reason := not_weights(path):
        raise UserError(f"{path} {reason}.")
    return read_weights(path)[0] if is_safetensors(path) else read_pickle(path)


def read_json(path: Path, largest: int) -> dict[str, Any]:
    """The object in a JSON file; UserError if it holds something else or over `largest` bytes."""
    try:
        content = parse_json(read_small(path, largest))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is damaged ({reason}); download it again.") from error
    return content


def settings_beside(path: Path) -> Settings:
    """What config.json and preprocessor_config.json say of a file with a name of `MAIN`.

    Beside any other file they may belong to another one, so they are not read. Raises UserError
    where they are damaged or describe a network that cannot be built here.
    """
    file, preprocessor = path.parent / CONFIG, path.parent / PREPROCESSOR
    config = read_json(file, LARGEST_SETTINGS) if file.is_file() else {}
    kind = config.get("model_type")
    old = config if kind is None and "architecture" in config else None  # timm's oldest are flat
    timms = config.get("pretrained_cfg", old)
    if isinstance(timms, dict):
        return _of_timm(config, timms, file)
    if kind is None:
        mean, std = _preprocessing(preprocessor, IMAGENET)
        return Settings(mean=mean, std=std)
    model, known = described(config, file)
    mean, std = _preprocessing(preprocessor, model.statistics)
    return Settings(model.method, known, mean, std, model.statistics, config)


def _of_timm(config: Mapping[str, Any], cfg: Mapping[str, Any], file: Path) -> Settings:
    """Settings of timm; cfg: its `pretrained_cfg`. What is not of a known kind says nothing."""
    mean, std = _statistics(cfg, file)
    ratio, way = number(cfg.get("crop_pct")), cfg.get("interpolation")
    pool = config.get("global_pool")
    return Settings(
        mean=mean,
        std=std,
        reads=TIMMS_POOLS.get(pool, pool) if isinstance(pool, str) else "",
        interpolation=way if way in INTERPOLATIONS else "",
        crop_ratio=float(ratio) if ratio is not None and 0 < ratio <= 1 else None,
    )


def _preprocessing(file: Path, usual: Statistics) -> Statistics:
    """Mean and std of inputs in [0, 1] in a file of preprocessing; () where it gives neither.

    Where it multiplies pixels by something else than 1/255, they default to `usual`.
    """
    settings = read_json(file, LARGEST_SETTINGS) if file.is_file() else {}
    scale = 1.0
    if settings.get("do_rescale") is False:
        scale = SCALE
    elif "rescale_factor" in settings:
        scale = SCALE * fraction(settings["rescale_factor"], file, "rescale_factor")
    if settings.get("do_normalize") is False:
        settings = {"image_mean": 0, "image_std": 1}
    elif not math.isclose(scale, 1, rel_tol=1e-6):
        settings = dict(zip(("image_mean", "image_std"), usual, strict=True)) | settings
    return _statistics(settings, file, "image_", scale)


def _statistics(
    settings: Mapping[str, Any], file: Path, prefix: str = "", scale: float = 1.0
) -> Statistics:
    """The mean and std of inputs in [0, 1], given for inputs in [0, scale]; () if neither is given.

    One number stands for all channels.
    """
    names = ("mean", "std")
    if all(settings.get(f"{prefix}{name}") is None for name in names):
        return (), ()
    mean, std = (_triple(settings.get(f"{prefix}{name}"), scale) for name in names)
    for name, values in zip(names, (mean, std), strict=True):
        if not sound_statistics(name, values):
            raise UserError(
                f"{file} says {prefix}{name} {settings.get(prefix + name)!r}, which must be "
                f"{STATISTICS[name]}; correct it."
            )
    return mean, std


def _triple(value: Any, scale: float) -> tuple[float, ...]:
    values = value if isinstance(value, (list, tuple)) else [value] * 3
    return tuple(float(v) / scale for one in values if (v := number(one)) is not None)
