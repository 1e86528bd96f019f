"""What config.json and preprocessor_config.json beside a file of weights say of its network.

Both are Hugging Face's, of `transformers` (its `configuration_*.py`) or timm. What shapes do not
tell is taken from them; what they say otherwise has to be true of the network in the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sslbench.backbones.config import SIZES, SWINS, BackboneConfig
from sslbench.checkpoints.folders import MAIN, read_json
from sslbench.checkpoints.pickles import number
from sslbench.checkpoints.provenance import HALF
from sslbench.checkpoints.sources import STATISTICS, sound_statistics
from sslbench.errors import UserError
from sslbench.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
LARGEST = 2**20  # bytes of either
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)


@dataclass(frozen=True)
class Kind:
    """What a `model_type` tells.

    method: of its pretraining; norm_eps, usual: eps of LayerNorms, mean and std of inputs where
    nothing says them; network: as `_network` names it.
    """

    method: str
    norm_eps: float
    usual: tuple[tuple[float, ...], tuple[float, ...]]
    network: str


MODELS = {
    "vit": Kind("", 1e-12, (HALF, HALF), "vit"),
    "deit": Kind("deit", 1e-12, IMAGENET, "vit"),
    "dinov2": Kind("dinov2", 1e-6, IMAGENET, "vit with LayerScale"),
    "dinov2_with_registers": Kind("dinov2", 1e-6, IMAGENET, "vit with LayerScale and registers"),
    "beit": Kind("beit", 1e-12, (HALF, HALF), "beit"),
    "vit_mae": Kind("mae", 1e-12, IMAGENET, "vit"),
    "swin": Kind("", 1e-5, IMAGENET, "swin"),
}
# what every network that can be built has; others are refused before their tensors are looked at
BUILT = {
    "hidden_act": "gelu",
    "qkv_bias": True,
    "num_channels": 3,
    "mlp_ratio": 4,
    "use_swiglu_ffn": False,
    "use_absolute_embeddings": False,
}
SCALE = 255.0  # a pixel's largest value, by which images are divided here


@dataclass(frozen=True)
class Settings:
    """What the settings beside a file say of a network; empty where they say nothing.

    known: settings of its `BackboneConfig` that shapes do not tell; mean, std: of inputs in [0, 1];
    usual: those that are transformers' default for it; said: the whole config.json of
    `transformers`.
    """

    method: str = ""
    known: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    usual: tuple[tuple[float, ...], ...] = ()
    said: Mapping[str, Any] = field(default_factory=dict)


def settings_beside(path: Path) -> Settings:
    """What config.json and preprocessor_config.json say of a file with a name of `MAIN`.

    Of any other file they may be another's. Raises UserError where they are damaged or describe a
    network that cannot be built here.
    """
    file = path.parent / CONFIG
    if path.name not in MAIN:
        return Settings()
    said = read_json(file, LARGEST) if file.is_file() else {}
    kind = said.get("model_type")
    own = said.get("pretrained_cfg", said if kind is None and "architecture" in said else None)
    if isinstance(own, dict):  # timm's; its oldest are flat
        mean, std = _statistics(own, file)
        return Settings(mean=mean, std=std)
    if kind is None:
        mean, std = _preprocessing(path.parent / PREPROCESSOR, IMAGENET)
        return Settings(mean=mean, std=std)
    if not isinstance(kind, str) or kind not in MODELS:
        raise UserError(
            f"{file} says model_type {kind!r}, which is not read; known are {', '.join(MODELS)}."
        )
    for name, value in BUILT.items():
        if said.get(name, value) != value:
            raise UserError(f"{file} says {name} {said[name]!r}; only {value!r} can be built.")
    model = MODELS[kind]
    eps = _number(said.get("layer_norm_eps", model.norm_eps), file, "layer_norm_eps")
    known, size = {"norm_eps": eps}, _side(said.get("image_size"))
    if isinstance(size, int):
        known["image_size"] = size
    mean, std = _preprocessing(path.parent / PREPROCESSOR, model.usual)
    return Settings(model.method, known, mean, std, model.usual, said)


def usual_eps(names: Iterable[str]) -> float:
    """transformers' default eps for the network with these official names."""
    names = list(names)
    swin = any("downsample." in name for name in names)
    scaled = any(name.endswith(".ls1.gamma") for name in names)
    return MODELS["swin" if swin else "dinov2" if scaled else "vit"].norm_eps


def check_settings(beside: Settings, config: BackboneConfig, normed: bool, path: Path) -> None:
    """Raises UserError where the settings beside a file describe another network than it holds.

    normed: the network itself ends in a norm.
    """
    file, said = path.parent / CONFIG, beside.said
    if not said:
        return
    network = MODELS[said["model_type"]].network
    if network != _network(config):
        found = f"a {_network(config)}, not a {network}"
        raise UserError(
            f"{file} says model_type {said['model_type']!r}, but {path.name} holds {found}; give "
            "the settings that belong to it."
        )
    for name, value in _described(config, normed).items():
        if name in said and _plain(name, said[name], config) != value:
            raise UserError(
                f"{file} says {name} {said[name]!r}, but the {config.arch} in {path.name} is "
                f"built with {value!r}; give the settings that belong to it."
            )


def _network(config: BackboneConfig) -> str:
    """Its family and what its blocks have that others of the family lack."""
    own = [
        *(["LayerScale"] if config.layer_scale else []),
        *(["registers"] if config.registers else []),
    ]
    family = config.family
    return f"{family} with {' and '.join(own)}" if own and family == "vit" else family


def _described(config: BackboneConfig, normed: bool) -> dict[str, Any]:
    """The settings by which `transformers` would build a network."""
    width, depth, heads, _ = {**SIZES, **SWINS}[config.name]
    about: dict[str, Any] = {"patch_size": config.patch_size, "image_size": config.image_size}
    if isinstance(depth, tuple) and isinstance(heads, tuple):  # Swin, one for each stage
        about |= {"embed_dim": width, "window_size": config.window}
        return about | {"depths": list(depth), "num_heads": list(heads)}
    about |= {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    about["intermediate_size"] = 4 * width
    if config.registers:
        about["num_register_tokens"] = config.registers
    if config.family == "beit":
        about["use_mean_pooling"] = not normed
        about["use_absolute_position_embeddings"] = config.positions == "absolute"
        about["use_relative_position_bias"] = config.positions == "relative"
        about["use_shared_relative_position_bias"] = config.positions == "shared relative"
    return about


def _plain(name: str, value: Any, config: BackboneConfig) -> Any:
    """A setting as `_described` gives it; a ViT's images may be larger than its patches cover."""
    if name not in ("image_size", "patch_size"):
        return value
    side = _side(value)
    if name == "image_size" and config.family != "swin" and isinstance(side, int):
        return side - side % config.patch_size
    return side


def _side(value: Any) -> Any:
    """The side of a square that may be given as its two sides."""
    same = isinstance(value, list) and len(value) == 2 and value[0] == value[1]
    return value[0] if same else value


def _number(value: Any, file: Path, name: str) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 < value < 1:
        raise UserError(f"{file} says {name} {value!r}, which must be between 0 and 1.")
    return float(value)


def _preprocessing(
    file: Path, usual: tuple[tuple[float, ...], ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of inputs in [0, 1] in a file of preprocessing; () where it says neither.

    Where it multiplies pixels by something else than 1/255, they are `usual` unless said.
    """
    said = read_json(file, LARGEST) if file.is_file() else {}
    times = 1.0
    if said.get("do_rescale") is False:
        times = SCALE
    elif "rescale_factor" in said:
        times = SCALE * _number(said["rescale_factor"], file, "rescale_factor")
    own: Mapping[str, Any] = said
    if said.get("do_normalize") is False:
        own = {"image_mean": 0, "image_std": 1}
    elif not math.isclose(times, 1, rel_tol=1e-6):
        own = dict(zip(("image_mean", "image_std"), usual, strict=True)) | said
    return _statistics(own, file, "image_", times)


def _statistics(
    said: Mapping[str, Any], file: Path, prefix: str = "", times: float = 1.0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and std that a file says of inputs in [0, times], of [0, 1]; () if it says neither.

    One number stands for all channels.
    """
    names = ("mean", "std")
    if all(said.get(f"{prefix}{name}") is None for name in names):
        return (), ()
    mean, std = (_triple(said.get(f"{prefix}{name}"), times) for name in names)
    for name, found in zip(names, (mean, std), strict=True):
        if not sound_statistics(name, found):
            raise UserError(
                f"{file} says {prefix}{name} {said.get(prefix + name)!r}, which must be "
                f"{STATISTICS[name]}; correct it."
            )
    return mean, std


def _triple(value: Any, times: float) -> tuple[float, ...]:
    values = value if isinstance(value, (list, tuple)) else [value] * 3
    return tuple(float(v) / times for one in values if (v := number(one)) is not None)
