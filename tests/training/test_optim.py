"""Decay groups, schedules written into the optimiser, and clipping."""

import pytest
import torch
from torch import nn

from sslbench.backbones.base import Backbone
from sslbench.errors import UserError
from sslbench.method import Progress
from sslbench.recipes.recipe import OptimConfig, TrainConfig
from sslbench.training.optim import clip_gradients, make_optimizer, peak_lr, set_schedules
from tests.methods.small import make_dino, make_ibot, tiny_vit  # noqa: F401

TOKENS = {"backbone.cls_token", "backbone.pos_embed", "backbone.mask_token"}
PROTOTYPES = {"head.last_layer.weight_g", "head.last_layer.weight_v"}


def groups(method, **settings):
    """Names of decayed and of exempt parameters, without "student."."""
    optimizer = make_optimizer(method, OptimConfig(**settings))
    names = {p: n.removeprefix("student.") for n, p in method.named_parameters()}
    assert optimizer.param_groups[1]["weight_decay"] == 0
    return [{names[p] for p in group["params"]} for group in optimizer.param_groups]


def is_exempt(name):
    return name.endswith(".bias") or ".norm" in name


@pytest.mark.parametrize("make", [make_dino, make_ibot])
def test_biases_and_norms_alone_are_exempt(make):
    """Trap T10: positions, tokens and both factors of the prototypes are decayed."""
    method = make(norm_last_layer=False)
    decayed, exempt = groups(method)
    everything = {n for n, p in method.student.named_parameters()}
    assert decayed | exempt == everything and not decayed & exempt
    assert exempt == {n for n in everything if is_exempt(n)}
    assert decayed >= PROTOTYPES | (TOKENS & everything)
    assert ("backbone.mask_token" in decayed) is (make is make_ibot)


def test_separate_prototypes_are_decayed_too():
    decayed, _ = groups(make_ibot(shared_head=False, shared_head_teacher=False))
    assert decayed >= {n.replace("last_layer", "last_layer2") for n in PROTOTYPES}


def test_norms_frozen_at_one_and_the_teacher_are_left_out():
    method = make_dino(norm_last_layer=True)
    decayed, exempt = groups(method)
    assert "head.last_layer.weight_v" in decayed
    assert "head.last_layer.weight_g" not in decayed | exempt
    assert not any(n.startswith("teacher.") for n in decayed | exempt)


def test_no_decay_exempts_by_the_end_of_the_name():
    """BEiT: positions and class token exempt, the mask token decayed."""
    decayed, exempt = groups(make_ibot(), no_decay=("pos_embed", "cls_token"))
    assert TOKENS & exempt == {"backbone.cls_token", "backbone.pos_embed"}
    assert TOKENS & decayed == {"backbone.mask_token"}
    assert {n for n in exempt if not is_exempt(n)} == TOKENS & exempt


def test_betas_and_epsilon_are_the_papers():
    optimizer = make_optimizer(nn.Linear(2, 2), OptimConfig(betas=(0.9, 0.95)))
    assert optimizer.defaults["betas"] == (0.9, 0.95)
    assert optimizer.defaults["eps"] == 1e-8


@pytest.mark.parametrize("scale, expected", [(True, 2e-3), (False, 5e-4)])
def test_lr_scales_with_the_batch_where_asked(scale, expected):
    optim = OptimConfig(lr=5e-4, scale_lr=scale)
    assert peak_lr(optim, TrainConfig(batch_size=1024)) == pytest.approx(expected)


def test_lr_goes_to_both_groups_and_decay_to_the_first():
    optim = OptimConfig(warmup_epochs=2, weight_decay=0.04, weight_decay_end=0.4, min_lr=1e-6)
    train, optimizer = TrainConfig(batch_size=512), make_optimizer(nn.Linear(2, 2), OptimConfig())
    for step, lr, decay in ((0, 0.0, 0.04), (9, 1e-3, None), (10, 1e-3, None), (25, None, 0.22)):
        found = set_schedules(optimizer, Progress(step, 50, 5), optim, train)
        first, second = optimizer.param_groups
        assert found == (first["lr"], first["weight_decay"])
        assert second["lr"] == first["lr"] and second["weight_decay"] == 0
        assert lr is None or found[0] == pytest.approx(lr)
        assert decay is None or found[1] == pytest.approx(decay)


def test_decay_pulls_the_first_group_alone():
    layer = nn.Linear(3, 3)
    start = {n: p.detach().clone() for n, p in layer.named_parameters()}
    optimizer = make_optimizer(layer, OptimConfig())
    optim = OptimConfig(lr=0.1, scale_lr=False, warmup_epochs=0, weight_decay=0.5)
    set_schedules(optimizer, Progress(0, 10, 1), optim, TrainConfig())
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), start["weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(layer.bias, start["bias"])


def layered(**settings):
    """An iBOT of two blocks, its optimiser with layer decay 0.5, and names by group."""
    method = make_ibot()
    optimizer = make_optimizer(method, OptimConfig(layer_decay=0.5, **settings))
    names = {p: n.removeprefix("student.") for n, p in method.named_parameters()}
    return method, optimizer, [{names[p] for p in g["params"]} for g in optimizer.param_groups]


def test_every_layer_has_a_decayed_and_an_exempt_group():
    """Embeddings, two blocks, and the rest: the final norm and the head."""
    _, optimizer, names = layered(no_decay=("pos_embed", "cls_token"))
    assert [g["lr_scale"] for g in optimizer.param_groups[::2]] == [0.125, 0.25, 0.5, 1.0]
    assert [g["lr_scale"] for g in optimizer.param_groups[1::2]] == [0.125, 0.25, 0.5, 1.0]
    assert names[0] == {"backbone.mask_token", "backbone.patch_embed.weight"}
    tokens = {"backbone.pos_embed", "backbone.cls_token", "backbone.patch_embed.bias"}
    assert names[1] == tokens
    for i in range(2):
        assert all(n.startswith(f"backbone.blocks.{i}.") for n in names[2 + 2 * i])
        assert "backbone.blocks.0.norm1.weight".replace("0", str(i), 1) in names[3 + 2 * i]
    assert "head.last_layer.weight_v" in names[6] and "backbone.norm.weight" in names[7]
    assert all(map(is_exempt, set.union(*names[3::2])))
    assert not any(map(is_exempt, set.union(*names[::2])))


def test_layers_learn_at_their_scale_and_only_decayed_groups_decay():
    _, optimizer, _ = layered()
    optim = OptimConfig(lr=1e-3, scale_lr=False, warmup_epochs=0, weight_decay=0.3)
    assert set_schedules(optimizer, Progress(0, 10, 1), optim, TrainConfig()) == (1e-3, 0.3)
    for i, group in enumerate(optimizer.param_groups):
        assert group["lr"] == 1e-3 * 0.5 ** (3 - i // 2)
        assert group["weight_decay"] == (0.0 if i % 2 else 0.3)


def test_without_layer_decay_the_state_is_that_of_older_checkpoints():
    method = make_ibot()
    optimizer = make_optimizer(method, OptimConfig())
    plain = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    groups = optimizer.state_dict()["param_groups"]
    assert len(groups) == 2
    assert all(group.keys() == plain.state_dict()["param_groups"][0].keys() for group in groups)


class Unlayered(Backbone):
    """A backbone of a plugin that does not say what its layers are."""

    depth = 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize(
    "module, reason",
    [
        (nn.Linear(2, 2), "no backbone of sslbench in Linear"),
        (nn.ModuleList([Unlayered(), Unlayered()]), "2 backbones that train of sslbench in Mod"),
        (Unlayered(), "Unlayered has no layers"),
    ],
)
def test_layer_decay_needs_one_backbone_with_layers(module, reason):
    with pytest.raises(UserError, match=rf"^optim\.layer_decay=0\.5 cannot be used: {reason}"):
        make_optimizer(module, OptimConfig(layer_decay=0.5))


def with_gradients(*norms):
    """Parameters whose gradients have these norms."""
    made = []
    for norm in norms:
        parameter = nn.Parameter(torch.zeros(2, 2))
        parameter.grad = torch.full((2, 2), norm / 2)
        made.append(parameter)
    return made


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"clip": None}, (3.0, 4.0, 0.0)),
        ({"clip": 0.0, "clip_by": "tensor"}, (3.0, 4.0, 0.0)),  # fault P12: off, as officially
        ({"clip": 0.0, "clip_by": "global"}, (3.0, 4.0, 0.0)),
        ({"clip": 3.5, "clip_by": "tensor"}, (3.0, 3.5, 0.0)),
        ({"clip": 1.0, "clip_by": "tensor"}, (1.0, 1.0, 0.0)),
        ({"clip": 1.0, "clip_by": "global"}, (0.6, 0.8, 0.0)),
        ({"clip": 6.0, "clip_by": "global"}, (3.0, 4.0, 0.0)),
    ],
)
def test_clips_each_tensor_or_all_together(settings, expected):
    """Trap T8; the norm returned is that before clipping."""
    parameters = with_gradients(3.0, 4.0, 0.0)
    total = clip_gradients(parameters, OptimConfig(**settings))
    assert total.item() == pytest.approx(5.0)
    norms = [p.grad.norm().item() for p in parameters]
    assert norms == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("clip_by", ["tensor", "global"])
def test_a_gradient_that_is_not_finite_shows_in_the_norm(clip_by):
    parameters = with_gradients(1.0, float("nan"))
    assert not clip_gradients(parameters, OptimConfig(clip=1.0, clip_by=clip_by)).isfinite()
