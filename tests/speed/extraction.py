"""Features of a ViT-S/16, against timm's own model in a plain loop."""

from __future__ import annotations

import timm
import torch
from torch import Tensor

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.evaluation.features import CPU_BATCH, LAYERS, pool_tokens
from tests.speed.race import Race

IMAGES, SIDE = 64, 224
NEAR = {False: 1e-5, True: 0.03}  # bf16 or not -> largest difference, of the norm of the features


def float32() -> Race:
    return race("features", False, 1.05)


def bf16() -> Race:
    return race("features-bf16", True, 1.8)


@torch.inference_mode()
def race(name: str, bf16: bool, wanted: float) -> Race:
    """Both in batches of the same size, timm's in float32; ours reads four [CLS] and two means."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="vit_small", image_size=SIDE, patch_size=16))
    peer = timm.create_model("vit_small_patch16_224", num_classes=0).eval()
    weights = backbone.eval().state_dict()
    peer.load_state_dict(
        {name.replace("patch_embed.", "patch_embed.proj."): x for name, x in weights.items()}
    )
    images = torch.randn(IMAGES, 3, SIDE, SIDE)

    def ours() -> Tensor:
        parts = images.split(CPU_BATCH)
        return torch.cat([pool_tokens(backbone, part, True, bf16)[LAYERS - 1] for part in parts])

    @torch.inference_mode()
    def theirs() -> Tensor:
        return torch.cat([peer(part) for part in images.split(CPU_BATCH)])

    apart = float((ours() - theirs()).norm() / theirs().norm())
    if apart > NEAR[bf16]:
        raise ValueError(f"[CLS] differs by {apart:.1e} of it")
    return Race(
        name,
        f"features of a ViT-S/16, {SIDE} pixels, {'bf16 against float32' if bf16 else 'float32'}",
        ours,
        {"timm": theirs},
        {"timm": wanted},
        "images",
        IMAGES,
        f"[CLS], to {apart:.0e} of its norm",
    )
