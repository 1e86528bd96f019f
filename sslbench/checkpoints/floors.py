"""Untrained models that every trained one is compared with: fresh weights and pixels."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qsl, urlencode

import torch

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.backbones.pixels import RawPixels
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.data.rng import fitting
from sslbench.errors import UserError
from sslbench.result import ModelCard, digest
from sslbench.storage.weights import weights_sha256

RANDOM, PIXELS = "random-init", "pixels"
FLOORS = (PIXELS, RANDOM)
# what a random-init source may say of its architecture beyond name, patch and size -> default
OPTIONS: dict[str, Any] = {
    f.name: f.default
    for f in fields(BackboneConfig)
    if f.name in ("window", "positions", "layer_scale", "registers", "norm_eps", "resampling")
}


def random_source(config: BackboneConfig, seed: int) -> str:
    """The source string of a random-init floor for an architecture."""
    settings = {n: getattr(config, n) for n in OPTIONS if getattr(config, n) != OPTIONS[n]}
    place = f"{config.name}/{config.patch_size}@{config.image_size}"
    return f"{RANDOM}:{place}?{urlencode({'seed': seed, **settings})}"


def random_model(text: str) -> LoadedModel:
    """Fresh weights, always the same for one source; UserError for a malformed source."""
    match = re.fullmatch(rf"{RANDOM}:(\w+)/(\d+)@(\d+)(?:\?(.*))?", text)
    try:
        if not match:
            raise ValueError(text)
        options = dict(parse_qsl(match.group(4) or "", strict_parsing=bool(match.group(4))))
        seed = int(options.pop("seed", 0))
        if seed < 0:
            raise ValueError(seed)
        settings = {name: type(OPTIONS[name])(value) for name, value in options.items()}
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{text!r} is not of the form {RANDOM}:vit_small/16@224?seed=0, with "
            f"{', '.join(OPTIONS)} as further options."
        ) from error
    name, patch, size = match.group(1), int(match.group(2)), int(match.group(3))
    config = BackboneConfig(name, patch, size, drop_path=0.0, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fitting(seed))
        backbone = build_backbone(config).eval()
    sha = weights_sha256(backbone.state_dict())
    card = ModelCard(sha, RANDOM, config.arch, seed=seed)
    return LoadedModel(backbone, card, ("cls", "mean"), size)


def pixels_model(text: str) -> LoadedModel:
    """The pixels of images of a size, e.g. "pixels:64"; UserError for a malformed source."""
    size = text.partition(":")[2]
    if not size.isdecimal() or int(size) < 8 or int(size) % 8:
        raise UserError(f"{text!r} is not of the form {PIXELS}:64, a multiple of 8.")
    card = ModelCard(digest(text), PIXELS, "none")
    return LoadedModel(RawPixels(int(size)), card, ("cls",), int(size))
