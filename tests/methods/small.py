"""Methods and batches small enough for a test: ViT of width 16, 16 px crops of 4 px patches."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import SIZES, BackboneConfig
from sslbench.method import Method, Progress, ViewBatch
from sslbench.methods.dino import DINO, DINOConfig
from sslbench.methods.ibot import IBOT, IBOTConfig

PATCH, SIZE, LOCAL, GRID = 4, 16, 8, 4
MEAN, STD = (0.5, 0.375, 0.25), (0.25, 0.5, 0.125)  # exact in fp32
HEAD = {"out_dim": 12, "hidden_dim": 24, "bottleneck_dim": 8}
SHARING: dict[str, dict] = {  # of iBOT's prototypes between [CLS] and patches
    "shared": {"shared_head": True},
    "semi-shared": {"shared_head": False, "patch_out_dim": 12},
    "separate": {"shared_head": False, "shared_head_teacher": False, "patch_out_dim": 10},
}


@pytest.fixture(autouse=True)
def tiny_vit(monkeypatch):
    """Makes `vit_nano` a ViT of width 16, depth 2 and 2 heads."""
    monkeypatch.setitem(SIZES, "vit_nano", (16, 2, 2, 0.1))


@pytest.fixture
def float64(monkeypatch):
    """Lets a method that was moved to float64 stay there: its casts to fp32 become float64 too."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def backbone_config(drop_path: float = 0.0) -> BackboneConfig:
    return BackboneConfig("vit_nano", PATCH, SIZE, drop_path)


def make_backbone(drop_path: float = 0.0) -> partial:
    return partial(build_backbone, backbone_config(drop_path))


def make_dino(drop_path: float = 0.0, **settings) -> DINO:
    torch.manual_seed(0)
    return shake(DINO(DINOConfig(**HEAD | settings), make_backbone(drop_path)))


def make_ibot(drop_path: float = 0.0, **settings) -> IBOT:
    torch.manual_seed(0)
    config = IBOTConfig(**HEAD | {"patch_out_dim": 10} | settings)
    return shake(IBOT(config, make_backbone(drop_path)))


@torch.no_grad()
def shake(module):
    """Moves every parameter but frozen prototype norms, so that no bias or mask token is 0 and
    student and teacher differ."""
    for name, parameter in module.named_parameters():
        if not name.endswith("weight_g") or parameter.requires_grad:
            parameter += 0.2 * torch.randn_like(parameter)
    return module


def make_batch(
    seed: int, size: int = 3, local: int = 0, masked: bool = True, scale: int = 1, grid: int = GRID
) -> ViewBatch:
    """Two global crops, `local` local ones, masks of any number of patches (the first image's: 0).

    scale: of the crops' sides; grid: side of the masks.
    """
    draw = torch.Generator().manual_seed(seed)
    noise = partial(torch.randint, 0, 256, dtype=torch.uint8, generator=draw)
    crops = {"global": noise((2, size, 3, scale * SIZE, scale * SIZE))}
    if local:
        crops["local"] = noise((local, size, 3, scale * LOCAL, scale * LOCAL))
    ratio = torch.rand(2, size, 1, 1, generator=draw) * masked
    ratio[:, 0] = 0
    masks = {"global": torch.rand(2, size, grid, grid, generator=draw) < ratio}
    return ViewBatch(crops, masks, torch.arange(size), MEAN, STD)


def merge(*batches: ViewBatch) -> ViewBatch:
    """The images of all batches in one."""
    crops = {k: torch.cat([b.crops[k] for b in batches], 1) for k in batches[0].crops}
    masks = {k: torch.cat([b.masks[k] for b in batches], 1) for k in batches[0].masks}
    return ViewBatch(crops, masks, torch.cat([b.index for b in batches]), MEAN, STD)


def at(step: int, total: int = 4, steps_per_epoch: int = 1) -> Progress:
    return Progress(step, total, steps_per_epoch)


def gradients(method: Method) -> dict[str, Tensor]:
    """Clones of all gradients by name; those that are None are left out."""
    return {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in module.named_parameters()}
