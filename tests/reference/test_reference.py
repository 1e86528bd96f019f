"""The steps in the official structure give the losses and gradients of ours."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.method import ViewBatch
from sslbench.methods.beit import BEiT, BEiTConfig
from sslbench.methods.tokenizers.dalle import DallE, DallEConfig
from tests.methods.small import MEAN, STD, at, make_batch, make_dino, make_ibot, shake, tiny_vit
from tests.reference.beit import OfficialBEiT
from tests.reference.networks import gradients
from tests.reference.steps import OfficialDINO, OfficialIBOT

__all__ = ["tiny_vit"]
TEMPERATURES = {"teacher_temp": 0.04, "warmup_teacher_temp_epochs": 0.0}


def compare(method, official, batch: ViewBatch, steps: int = 2) -> None:
    """Loss and gradients of steps whose centres move."""
    for _ in range(steps):
        ours, theirs = method.loss(batch, at(0))["loss"], official.loss(batch)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        ours.backward()
        theirs.backward()
        found, wanted = gradients(method, official.student)
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=2e-6)
        method.zero_grad()
        official.student.zero_grad()
        for centre in getattr(method, "_centres", list)():
            centre.step()


def test_dino() -> None:
    method = make_dino(**TEMPERATURES)
    compare(method, OfficialDINO(method, 0.0), make_batch(0, local=3))


@pytest.mark.parametrize("local", [0, 2])
def test_ibot(local) -> None:
    method = make_ibot(teacher_patch_temp=0.04, **TEMPERATURES)
    compare(method, OfficialIBOT(method, 0.0), make_batch(1, local=local))


def test_beit() -> None:
    torch.manual_seed(0)
    config = BackboneConfig("beit_nano", 16, 64, 0.0, positions="shared relative", layer_scale=0.1)
    views = BEiTConfig().views.__class__(size=64, token_size=32)
    tokenizer = DallE(DallEConfig(num_codes=24, hidden_dim=16))
    method = shake(BEiT(BEiTConfig(views=views), partial(build_backbone, config), tokenizer))
    crops = {
        "image": torch.randint(0, 256, (1, 3, 3, 64, 64), dtype=torch.uint8),
        "tokenizer": torch.randint(0, 256, (1, 3, 3, 32, 32), dtype=torch.uint8),
    }
    masks = {"image": torch.rand(1, 3, 4, 4) < 0.4}
    compare(method, OfficialBEiT(method, 0.0), ViewBatch(crops, masks, torch.arange(3), MEAN, STD))
