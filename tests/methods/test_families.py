"""The published steps on the papers' other backbones: Swin for iBOT and DINO, BEiT's own ViT."""

from functools import partial

import pytest
import torch

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import SIZES, SWINS, BackboneConfig
from sslbench.data.masks import CountMaskConfig
from sslbench.data.views import TokenizerCropConfig
from sslbench.methods.beit import BEiT, BEiTConfig
from sslbench.methods.dino import DINO, DINOConfig
from sslbench.methods.ibot import IBOT, IBOTConfig
from tests.methods import test_beit
from tests.methods.small import GRID, HEAD, PATCH, SHARING, SIZE, make_batch, shake
from tests.methods.steps import dino_step, ibot_step, make_run, march

SCALE = 4  # crops of 64 and 32 px: 2x2 and 1x1 output tokens of stride 32
SWIN = BackboneConfig("swin_nano", 4, SCALE * SIZE, drop_path=0.0, window=2)
SETTINGS = HEAD | {"momentum": 0.9, "warmup_teacher_temp_epochs": 0.0, "freeze_last_layer": 1.0}
TAU = 0.07


@pytest.fixture(autouse=True)
def tiny_families(monkeypatch):
    """Makes `swin_nano` and `beit_nano` as small as `vit_nano` is in these tests."""
    monkeypatch.setitem(SWINS, "swin_nano", (8, (2, 2, 1, 1), (1, 1, 2, 2), 0.1))
    monkeypatch.setitem(SIZES, "beit_nano", (16, 2, 2, 0.1))


def make(method_class, config, backbone, **needs):
    torch.manual_seed(0)
    return shake(method_class(config, partial(build_backbone, backbone), **needs)).double()


@pytest.mark.parametrize("local", [0, 2])
def test_dino_on_swin(float64, local):
    method = make(DINO, DINOConfig(**SETTINGS), SWIN)
    batches = [make_batch(seed, local=local, scale=SCALE) for seed in range(3)]
    errors = march(make_run(method, 3), batches, lambda twin, batch, i: dino_step(twin, batch, TAU))
    assert max(errors.values()) < 1e-8, errors


@pytest.mark.parametrize("local", [0, 2])
@pytest.mark.parametrize("sharing", SHARING)
def test_ibot_on_swin(float64, local, sharing):
    method = make(IBOT, IBOTConfig(**SETTINGS | SHARING[sharing]), SWIN)
    batches = [make_batch(seed, local=local, scale=SCALE, grid=2) for seed in range(3)]
    assert any(batch.masks["global"].any() for batch in batches)

    def step(twin, batch, i):
        return ibot_step(twin, batch, TAU, TAU)

    errors = march(make_run(method, 3), batches, step)
    assert max(errors.values()) < 1e-5, errors  # 1 / count is taken in fp32


@pytest.mark.parametrize("positions", ["absolute", "relative", "shared relative"])
@pytest.mark.parametrize("layer_scale", [0.0, 0.1])
def test_beit_on_its_own_vit(float64, positions, layer_scale):
    backbone = BackboneConfig(
        "beit_nano", PATCH, SIZE, drop_path=0.0, positions=positions, layer_scale=layer_scale
    )
    config = BEiTConfig(TokenizerCropConfig(SIZE, 2 * GRID), CountMaskConfig(0.4))
    method = make(BEiT, config, backbone, tokenizer=test_beit.CornerTokenizer())
    tables = [n for n, _ in method.named_parameters() if n.endswith("bias_table")]
    assert len(tables) == {"absolute": 0, "relative": 2, "shared relative": 1}[positions]
    errors = test_beit.three_steps(method)
    assert max(errors.values()) < 1e-8, errors
