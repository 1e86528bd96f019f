"""Parameter groups and DeiT's schedule against timm's own."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.method import Progress
from sslbench.recipes.recipe import OptimConfig, TrainConfig
from sslbench.training.optim import make_optimizer, set_schedules

TOKENS = ("pos_embed", "cls_token")
OPTIM = OptimConfig(
    lr=1.0, scale_lr=False, warmup_epochs=0, weight_decay=0.05, weight_decay_end=0.05,
    no_decay=TOKENS, layer_decay=0.65,
)  # fmt: skip


def pair() -> tuple[VisionTransformer, nn.Module]:
    """timm's ViT-S/16 with a head, and ours with the same weights."""
    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch16_224", num_classes=5)
    ours = nn.ModuleDict(
        {"backbone": build_backbone(BackboneConfig("vit_small")), "head": nn.Linear(384, 5)}
    )
    ours.load_state_dict({our_name(name): value for name, value in theirs.state_dict().items()})
    return theirs, ours


def our_name(name: str) -> str:
    name = name.replace("patch_embed.proj.", "patch_embed.")
    return name if name.startswith("head.") else f"backbone.{name}"


def values_of(model: nn.Module, groups) -> dict[str, tuple[float, float]]:
    """Name of each parameter -> (scale of the learning rate, weight decay)."""
    values = {id(p): (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    return {name: values.pop(id(p)) for name, p in model.named_parameters()}


def test_groups_equal_timm_s_but_for_the_final_norm() -> None:
    """timm puts the final norm with the last block, beit/optim_factory.py with the head."""
    theirs, ours = pair()
    groups = param_groups_layer_decay(theirs, 0.05, TOKENS, layer_decay=0.65)
    expected = {our_name(name): value for name, value in values_of(theirs, groups).items()}
    optimizer = make_optimizer(ours, OPTIM)
    lr, _ = set_schedules(optimizer, Progress(0, 10, 1), OPTIM, TrainConfig())
    values = values_of(ours, optimizer.param_groups)
    assert values.keys() == expected.keys()
    different = {name for name in values if values[name] != pytest.approx(expected[name])}
    assert different == {"backbone.norm.weight", "backbone.norm.bias"}
    assert {values[name] for name in different} == {(1.0, 0.0)}
    assert [expected[name][0] for name in different] == [pytest.approx(0.65)] * 2
    assert all(g["lr"] == lr * g["lr_scale"] for g in optimizer.param_groups)


def test_a_step_equals_one_with_timm_s_groups() -> None:
    theirs, ours = pair()
    groups = param_groups_layer_decay(theirs, 0.05, TOKENS, layer_decay=0.65)
    for group in groups:
        group["lr"] = 0.01 * group["lr_scale"]
    optim = OptimConfig(**{**vars(OPTIM), "lr": 0.01})
    optimizers = torch.optim.AdamW(groups, lr=0.0, fused=True), make_optimizer(ours, optim)
    set_schedules(optimizers[1], Progress(0, 10, 1), optim, TrainConfig())
    draw = torch.Generator().manual_seed(1)
    counterparts = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw)
        counterparts[our_name(name)].grad = parameter.grad.clone()
    for optimizer in optimizers:
        optimizer.step()
    for name, parameter in theirs.named_parameters():
        if not name.startswith("norm."):
            torch.testing.assert_close(counterparts[our_name(name)], parameter, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("epochs", "warmup", "peak", "end", "start"),
    [
        (300, 5, 1e-3, 1e-5, 1e-6),  # DeiT
        (1000, 5, 1e-5, 1e-5, 1e-6),  # iBOT, 1 % and 10 % of the labels: flat after the warm-up
        (360, 5, 7.5e-5 * 768 / 512, 1e-5, 1e-6),  # iBOT, iNaturalist
        (7, 0, 1e-3, 1e-5, 1e-6),
        (4, 6, 1e-3, 1e-5, 1e-6),
    ],
)
def test_the_schedule_is_timm_s_as_deit_steps_it(epochs, warmup, peak, end, start) -> None:
    """deit/main.py:355,432 and ibot/evaluation/eval_cls.py:695,768, with rates per layer."""
    optim = OptimConfig(
        lr=peak, scale_lr=False, min_lr=end, warmup_epochs=warmup, warmup_lr=start,
        schedule="epoch",
    )  # fmt: skip
    ours = make_optimizer(nn.Linear(2, 2), optim)
    theirs = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = CosineLRScheduler(
        theirs, t_initial=epochs, lr_min=end, warmup_t=warmup, warmup_lr_init=start
    )
    for epoch in range(epochs):
        expected = theirs.param_groups[0]["lr"]
        for step in range(3 * epoch, 3 * epoch + 3):
            rate, _ = set_schedules(ours, Progress(step, 3 * epochs, 3), optim, TrainConfig())
            assert rate == pytest.approx(expected, rel=1e-12)
            assert {group["lr"] for group in ours.param_groups} == {rate}
        scheduler.step(epoch)
