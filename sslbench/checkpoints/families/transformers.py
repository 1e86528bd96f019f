"""transformers (Hugging Face): ViT, DeiT, DINOv2, BEiT, MAE, Swin and the config.json beside them.

Names have two spellings: that of version 4 ("encoder.layer.0.attention.attention.query.") and that
of version 5 ("layers.0.attention.q_proj."). Sources: its `modeling_*.py`, `conversion_mapping.py`
and `configuration_*.py`. Queries, keys and values are apart, and become one tensor here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslbench.backbones.config import SIZES, SWINS, BackboneConfig
from sslbench.backbones.config import TRANSFORMERS as RESAMPLING
from sslbench.checkpoints.families.family import (
    HALF_RANGE,
    IMAGENET,
    Family,
    Origins,
    Statistics,
    Translation,
)
from sslbench.errors import UserError

EMBEDDING = "embeddings.patch_embeddings.projection.weight"

# applied in turn to a name without its root; -> official names, queries, keys and values apart
RULES = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^embeddings\.", ""),
    (r"^layernorm\.", "norm."),
    (r"^pooler\.layernorm\.", "fc_norm."),
    (r"^(encoder\.relative_position_bias|shared_position_bias)\.", "rel_pos_bias."),
    (r"^encoder\.layers\.(\d+)\.(blocks|downsample)\.", r"layers.\1.\2."),  # Swin
    (r"^(?:encoder\.)?layers?\.(\d+)\.(?!blocks\.|downsample\.)", r"blocks.\1."),
    (r"\.attention\.(?:attention|self)\.", ".attention."),
    (r"\.attention\.(?:query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(?:key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(?:value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.(?:attention\.)?(?:relative_position_bias\.)?(relative_position_)", r".attn.\1"),
    (r"^rel_pos_bias\.attn\.", "rel_pos_bias."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(?<=\d)\.output\.dense\.", ".mlp.fc2."),
    (r"\.lambda_([12])$", r".gamma_\1"),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
)
PART = re.compile(r"(.*\.attn)\.([qkv])\.(weight|bias)")


@dataclass(frozen=True)
class Kind:
    """What a `model_type` tells.

    method: of its pretraining; norm_eps, statistics: eps of LayerNorms, mean and std of inputs
    where nothing else gives them; network: as `_network` names it.
    """

    method: str
    norm_eps: float
    statistics: Statistics
    network: str


KINDS = {
    "vit": Kind("", 1e-12, HALF_RANGE, "vit"),
    "deit": Kind("deit", 1e-12, IMAGENET, "vit"),
    "dinov2": Kind("dinov2", 1e-6, IMAGENET, "vit with LayerScale"),
    "dinov2_with_registers": Kind("dinov2", 1e-6, IMAGENET, "vit with LayerScale and registers"),
    "beit": Kind("beit", 1e-12, HALF_RANGE, "beit"),
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


def translate(keys: Mapping[str, str], source: str) -> Translation:
    """The names of a dict of transformers, see `Family`.

    BEiT's pretraining has the final norm outside of the backbone.
    Raises UserError where queries, keys and values do not go together.
    """
    roots = [name.removesuffix(EMBEDDING) for name in keys if name.endswith(EMBEDDING)]
    official: dict[str, str] = {}
    for name, key in keys.items():
        root = max((r for r in roots if name.startswith(r)), key=len, default=None)
        new = name if root is None else root + _official(name.removeprefix(root))
        official[_final_norm(name, new, roots, keys)] = key
    if len(official) < len(keys):
        raise UserError(f"{source} holds some parameters under two names; save it anew.")
    parts = {name: match for name in official if (match := PART.fullmatch(name))}
    origins: Origins = {name: (key,) for name, key in official.items() if name not in parts}
    for attention in dict.fromkeys(match.group(1) for match in parts.values()):
        origins |= _fused(attention, official, source)
    normed = any(f"{root}layernorm.weight" in keys for root in roots)
    usual = {"resampling": RESAMPLING, "norm_eps": _usual_eps(origins)}
    return Translation(origins, normed, usual)


def _official(name: str) -> str:
    for pattern, new in RULES:
        name = re.sub(pattern, new, name)
    return name


def _final_norm(name: str, new: str, roots: list[str], keys: Mapping[str, str]) -> str:
    """The final norm of BEiT's pretraining stands beside the backbone, which then has none."""
    if len(roots) == 1 and roots[0] and name.startswith("layernorm."):
        inside = f"{roots[0]}{name}"
        return f"{roots[0]}norm.{name.removeprefix('layernorm.')}" if inside not in keys else new
    return new


def _fused(attention: str, official: Mapping[str, str], source: str) -> Origins:
    fused: Origins = {}
    for kind in ("weight", "bias"):
        pieces = {p: official[k] for p in "qkv" if (k := f"{attention}.{p}.{kind}") in official}
        if len(pieces) == 3:
            fused[f"{attention}.qkv.{kind}"] = tuple(pieces.values())
        elif kind == "bias" and set(pieces) == {"q", "v"}:  # BEiT's keys have none
            fused |= {f"{attention}.{p}_bias": (pieces[p],) for p in "qv"}
        elif pieces or kind == "weight":
            lost = next(p for p in "qkv" if p not in pieces)
            raise UserError(
                f"{source} lacks the {kind} of the {dict(q='queries', k='keys', v='values')[lost]} "
                f"beside {next(iter(pieces.values()), attention)}; get the file anew."
            )
    return fused


def _usual_eps(names: Collection[str]) -> float:
    """Of LayerNorms in the network with these official names."""
    swin = any("downsample." in name for name in names)
    scaled = any(name.endswith(".ls1.gamma") for name in names)
    return KINDS["swin" if swin else "dinov2" if scaled else "vit"].norm_eps


def described(settings: Mapping[str, Any], file: Path) -> tuple[Kind, dict[str, Any]]:
    """The kind of network that a config.json describes, and what shapes do not tell of it.

    Raises UserError for a network that cannot be built here.
    """
    kind = settings["model_type"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(
            f"{file} says model_type {kind!r}, which is not read; known are {', '.join(KINDS)}."
        )
    for name, value in BUILT.items():
        if settings.get(name, value) != value:
            raise UserError(f"{file} says {name} {settings[name]!r}; only {value!r} can be built.")
    eps = fraction(settings.get("layer_norm_eps", KINDS[kind].norm_eps), file, "layer_norm_eps")
    size = _side(settings.get("image_size"))
    known = {"norm_eps": eps} | ({"image_size": size} if isinstance(size, int) else {})
    return KINDS[kind], known


def fraction(value: Any, file: Path, name: str) -> float:
    """A setting between 0 and 1; UserError if it is something else."""
    if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 < value < 1:
        raise UserError(f"{file} says {name} {value!r}, which must be between 0 and 1.")
    return float(value)


def check_settings(
    settings: Mapping[str, Any], config: BackboneConfig, normed: bool, file: Path, weights: str
) -> None:
    """Raises UserError where a config.json describes another network than its weights are.

    settings: what `file` says. normed: the network itself ends in a norm.
    """
    kind, network = settings["model_type"], _network(config)
    if network != KINDS[kind].network:
        raise UserError(
            f"{file} says model_type {kind!r}, but {weights} holds a {network}, not a "
            f"{KINDS[kind].network}; give the settings that belong to it."
        )
    for name, value in _settings_of(config, normed).items():
        if name in settings and _comparable(name, settings[name], config) != value:
            raise UserError(
                f"{file} says {name} {settings[name]!r}, but the {config.arch} in {weights} is "
                f"built with {value!r}; give the settings that belong to it."
            )


def _network(config: BackboneConfig) -> str:
    """Its family and what its blocks have that others of the family lack."""
    extras = ["LayerScale"] if config.layer_scale else []
    extras += ["registers"] if config.registers else []
    family = config.family
    return f"{family} with {' and '.join(extras)}" if extras and family == "vit" else family


def _settings_of(config: BackboneConfig, normed: bool) -> dict[str, Any]:
    """The settings by which transformers would build a network."""
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


def _comparable(name: str, value: Any, config: BackboneConfig) -> Any:
    """A setting as `_settings_of` gives it; a ViT's images may be larger than its patches cover."""
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


TRANSFORMERS = Family(
    name="transformers",
    embeddings=(re.escape(EMBEDDING),),
    drops={r"(.*\.)?pooler\.dense\.(weight|bias)": "a pooler behind the features"},
    classifier={r"(?:.*\.)?classifier\.(weight|bias)": "linear"},
    translate=translate,
)
