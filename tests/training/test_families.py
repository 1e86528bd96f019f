"""Every family of backbones is trained by the methods that can, with crops of several sizes."""

import math

import pytest
import torch

from sslbench.backbones.config import SIZES, SWINS, BackboneConfig
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from sslbench.method import Progress
from sslbench.storage.layout import WEIGHTS
from sslbench.storage.weights import read_weights
from sslbench.training.build import build_method
from sslbench.training.optim import make_optimizer, set_schedules
from tests.training.small import recipe, train

VIT = {"name": "vit_nano", "patch_size": 8, "image_size": 32, "registers": 2, "layer_scale": 0.1}
BEIT = {"name": "beit_nano", "patch_size": 8, "image_size": 32, "layer_scale": 0.1}
SHARED, OWN = ({**BEIT, "positions": p} for p in ("shared relative", "relative"))
SWIN = {"name": "swin_nano", "patch_size": 4, "image_size": 64}
WIDE = {"views": {"global_size": 64, "local_size": 32, "local_crops": 1}}


@pytest.fixture(autouse=True)
def tiny_backbones(monkeypatch):
    for name in ("vit_nano", "beit_nano"):
        monkeypatch.setitem(SIZES, name, (16, 2, 2, 0.06))
    monkeypatch.setitem(SWINS, "swin_nano", (8, (1, 1, 2, 1), (1, 2, 2, 2), 0.06))


@pytest.mark.parametrize(
    "method, backbone",
    [
        *((method, backbone) for method in ("dino", "ibot") for backbone in (SHARED, OWN, SWIN)),
        ("ibot", VIT),
        *(("beit", backbone) for backbone in (BEIT, SHARED, OWN)),
    ],
)
def test_two_steps_change_every_weight(tmp_path, images, tokenizer, method, backbone):
    settings = {"backbone": {**backbone, "drop_path": 0.2}}
    settings["method"] = WIDE if backbone is SWIN else {}
    settings["train"] = {"epochs": 2, "batch_size": 20}
    settings["optim"] = {"warmup_epochs": 0.0}
    if method == "beit":
        settings["needs"] = {"tokenizer": str(tokenizer)}
    small = recipe(method, images, **settings)
    run = train(small, tmp_path / "run")
    tensors, _ = read_weights(run / WEIGHTS)
    before = build_method(small).backbone().state_dict()
    for name, tensor in before.items():
        same = torch.equal(tensor, tensors[f"backbone.{name}"])
        assert not same or name == "mask_token", name  # DINO's and iBOT's teachers have none
    model = load_backbone(run)
    assert model.card.arch == BackboneConfig(**backbone).arch
    tokens = model.backbone(torch.randn(2, 3, 64, 96))
    assert tokens.cls.isfinite().all() and tokens.patches.isfinite().all()


@pytest.mark.parametrize("backbone", [VIT, SHARED, OWN, SWIN])
def test_layers_learn_at_their_scale_and_resume_from_a_checkpoint(images, backbone):
    """One step of AdamW on equal gradients moves every weight by its learning rate."""
    layers = {"layer_decay": 0.5, "lr": 0.01, "warmup_epochs": 0, "weight_decay": 0.0}
    views = {"method": WIDE} if backbone is SWIN else {}
    small = recipe("dino", images, backbone=backbone, optim=layers, **views)
    method, again = build_method(small), build_method(small)
    optimizer, other = (make_optimizer(m, small.optim) for m in (method, again))
    step(method, optimizer, small)
    depth = method.student.backbone.depth
    for name, weight in build_method(small).student.named_parameters():
        if not weight.requires_grad:
            continue
        inside = name.startswith("backbone.")
        layer = method.student.backbone.layer_of(name.removeprefix("backbone.")) if inside else None
        scale = 0.5 ** (depth + 1 - layer) if inside else 1.0
        moved = weight - method.student.get_parameter(name)
        torch.testing.assert_close(moved, torch.full_like(moved, 0.01 * scale), rtol=1e-3, atol=0)
    again.load_state_dict(method.state_dict())
    other.load_state_dict(optimizer.state_dict())
    for pair in ((method, optimizer), (again, other)):
        step(*pair, small)
    for name, weight in method.named_parameters():
        assert torch.equal(weight, again.get_parameter(name)), name


def step(method, optimizer, small):
    """One step with the learning rate of the first and gradients of 1."""
    set_schedules(optimizer, Progress(0, 10, 1), small.optim, small.train)
    for parameter in method.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()


def test_beit_initialises_its_own_vit_as_published(images, tokenizer):
    """Trap T27: cut at one std, residual outputs of block l / sqrt(2 l), bias tables at zero."""
    small = recipe("beit", images, backbone=SHARED, needs={"tokenizer": str(tokenizer)})
    student = build_method(small).backbone().requires_grad_(False)
    std = student.init_std
    for layer, block in enumerate(student.blocks, start=1):
        assert std * 0.9 < float(block.attn.qkv.weight.abs().max()) <= std * 1.000001
        for weight in (block.attn.proj.weight, block.mlp.fc2.weight):
            cut = std / math.sqrt(2 * layer)
            assert cut * 0.9 < float(weight.abs().max()) <= cut * 1.000001
        assert not block.attn.q_bias.any() and not block.attn.v_bias.any()
    assert not student.rel_pos_bias.relative_position_bias_table.any()
    for token in (student.cls_token, student.mask_token):
        assert 0.01 < float(token.abs().max()) <= 0.02


def test_beit_refuses_a_backbone_without_cls_and_positions(images, tokenizer):
    small = recipe("beit", images, backbone=SWIN, needs={"tokenizer": str(tokenizer)})
    with pytest.raises(UserError, match=r"BEiT trains vit_\* and beit_\* .* not SwinTransformer"):
        build_method(small)
