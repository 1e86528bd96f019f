"""A small discrete VAE that turns an image into a grid of codes, for datasets without DALL-E's.

    max  E_q(z|x) [ log p(x | z) ] - beta KL( q(z|x) || uniform )

q is relaxed by the Gumbel-softmax whose temperature falls during training (Ramesh et al., 2021,
arXiv:2102.12092, sec. 2.1 and App. A; BEiT sec. 2.1). It is a Method, trained as any other, and
itself the tokenizer that BEiT is given.

Shapes: B images, K codes, h = H / downsample, w = W / downsample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import AfterValidator
from torch import Tensor, nn

from sslbench.backbones.sampling import PerSample
from sslbench.data.views import PlainCrop, PlainCropConfig
from sslbench.method import Method, Progress, ViewBatch
from sslbench.methods.losses import cosine
from sslbench.settings import Factor, Temperature, Width, setting
from sslbench.tokenizer import Tokenizer


def _halvings(downsample: int) -> int:
    """How often a side is halved; ValueError if `downsample` is not a power of two."""
    if downsample.bit_count() != 1:
        raise ValueError(f"downsample {downsample} is not a power of two")
    return downsample.bit_length() - 1


def _checked(downsample: int) -> int:
    _halvings(downsample)
    return downsample


@dataclass(frozen=True)
class DVAEConfig:
    """The settings of a small tokenizer; they are ours, not a paper's."""

    num_codes: Annotated[Width, setting("codes of the codebook", ge=2)] = 8192
    downsample: Annotated[
        int,
        setting("side that one code stands for, a power of two", "pixels", ge=2, le=1024),
        AfterValidator(_checked),
    ] = 8
    hidden_dim: Annotated[Width, setting("width of the widest layer")] = 256
    kl_weight: Annotated[Factor, setting("beta, the weight of the KL divergence per code")] = 1e-3
    temperature: Annotated[
        Temperature, setting("temperature of the Gumbel-softmax at the start")
    ] = 1.0
    final_temperature: Annotated[Temperature, setting("its temperature at the end")] = 0.0625
    views: PlainCropConfig = field(default_factory=PlainCropConfig)


class DiscreteVAE(Method, Tokenizer):
    name = "dvae"
    Config = DVAEConfig

    def __init__(self, config: DVAEConfig, make_backbone: Callable[..., nn.Module]) -> None:
        super().__init__(config, make_backbone)
        self.config = config
        self.num_codes, self.downsample = config.num_codes, config.downsample
        halvings = _halvings(config.downsample)
        if config.views.size % config.downsample:
            raise ValueError(
                f"views.size {config.views.size} is no multiple of downsample {config.downsample}"
            )
        widths = [max(32, config.hidden_dim >> (halvings - 1 - i)) for i in range(halvings)]
        self.encoder = _encoder(widths, config.num_codes)
        self.codebook = nn.Conv2d(config.num_codes, widths[-1], 1, bias=False)
        self.decoder = _decoder(widths)
        self.relax = GumbelSoftmax()

    @classmethod
    def views(cls, config: DVAEConfig, patch_size: int) -> PlainCrop:
        return PlainCrop(config.views)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] (B, 3, H, W) -> codes (B, h, w)."""
        return self.encoder(2 * pixels - 1).argmax(1)

    def decode(self, ids: Tensor) -> Tensor:
        """Codes (B, h, w) -> pixels in [0, 1] (B, 3, H, W)."""
        embedded = self.codebook.weight[:, ids, 0, 0].transpose(0, 1)
        return ((self.decoder(embedded) + 1) / 2).clamp(0, 1)

    def loss(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        """Mean squared error of pixels in [0, 1] plus beta times the KL per code, in nats."""
        c = self.config
        pixels = batch.pixels("image")[0]  # (B, 3, H, W)
        logits = self.encoder(2 * pixels - 1).float()  # (B, K, h, w)
        tau = cosine(c.temperature, c.final_temperature, progress)
        relaxed = self.relax(logits, tau)  # (B, K, h, w)
        restored = self.decoder(self.codebook(relaxed))  # (B, 3, H, W) in [-1, 1]
        error = F.mse_loss((restored.float() + 1) / 2, pixels)
        log_q = F.log_softmax(logits, dim=1)
        # KL(q || uniform) = ln K - H(q), per code
        divergence = (log_q.exp() * log_q).sum(1).mean() + math.log(c.num_codes)
        used = torch.bincount(logits.argmax(1).flatten(), minlength=c.num_codes) > 0
        return {
            "loss": error + c.kl_weight * divergence,
            "mse": error.detach(),
            "kl": divergence.detach(),
            "codes_used": used.sum().float(),
        }

    def backbone(self) -> Tokenizer:
        return self


class GumbelSoftmax(PerSample):
    """softmax((logits + g) / tau) over dim 1, g = -log(-log u): a relaxed sample of each code."""

    def forward(self, logits: Tensor, tau: float) -> Tensor:
        """Logits (B, K, h, w) in fp32 -> probabilities of the same shape."""
        uniform = self.uniform(len(logits), tuple(logits.shape[1:]), logits.device)
        exponential = -uniform.clamp(min=torch.finfo(uniform.dtype).tiny).log()
        gumbel = -exponential.clamp(min=torch.finfo(uniform.dtype).tiny).log()
        return ((logits + gumbel) / tau).softmax(1)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _encoder(widths: list[int], num_codes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    previous = 3
    for width in widths:
        layers += [nn.Conv2d(previous, width, 4, stride=2, padding=1), _Residual(width)]
        previous = width
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(previous, num_codes, 1))


def _decoder(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, following in zip(widths[::-1], [*widths[-2::-1], widths[0]], strict=True):
        layers += [_Residual(width), nn.ReLU()]
        layers += [nn.ConvTranspose2d(width, following, 4, stride=2, padding=1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(widths[0], 3, 1))
