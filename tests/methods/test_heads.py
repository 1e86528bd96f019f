"""The projection head against torch's own weight norm, and the EMA against a plain loop."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sslbench.methods.heads import ProjectionHead, WeightNormLinear, make_teacher, update_teacher
from tests.methods.small import shake, weights


def make_head(**settings):
    torch.manual_seed(0)
    return shake(ProjectionHead(16, 12, 24, 8, **{"norm_last_layer": False} | settings))


def torch_head(head, norms=None, last=None):
    """The same head of torch's own parts, in float64."""
    last = last or head.last_layer
    prototypes = weight_norm(nn.Linear(8, len(last.weight_v), bias=False), dim=0)
    prototypes.parametrizations.weight.original0.data = last.weight_g.detach().clone()
    prototypes.parametrizations.weight.original1.data = last.weight_v.detach().clone()
    linears = [nn.Linear(a, b) for a, b in ((16, 24), (24, 24), (24, 8))]
    layers = nn.ModuleDict(
        {
            "linears": nn.ModuleList(linears),
            "norms": nn.ModuleList(nn.BatchNorm1d(24) if norms else nn.Identity() for _ in "12"),
            "prototypes": prototypes,
        }
    )
    layers["linears"].load_state_dict(head.layers.state_dict())
    if norms:
        layers["norms"].load_state_dict(norms.state_dict())
    return layers.double()


def torch_forward(layers, x):
    first, second, third = layers["linears"]
    x = F.gelu(layers["norms"][0](first(x)))
    x = third(F.gelu(layers["norms"][1](second(x))))
    return layers["prototypes"](x / x.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_equals_torchs_weight_norm(batch_norm):
    head = make_head(batch_norm=batch_norm)
    peer = torch_head(head, head.norms if batch_norm else None)
    x, weight = torch.randn(7, 16), torch.randn(7, 12)
    ours, theirs = head(x), torch_forward(peer, x.double())
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    (ours * weight).sum().backward()
    (theirs * weight.double()).sum().backward()
    factors = peer["prototypes"].parametrizations.weight
    pairs = [
        (head.last_layer.weight_g, factors.original0),
        (head.last_layer.weight_v, factors.original1),
        *zip(head.layers.parameters(), peer["linears"].parameters(), strict=True),
    ]
    for a, b in pairs:
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-4, atol=1e-5)


def test_patches_share_the_prototypes_unless_told_otherwise():
    tokens = torch.randn(5, 16)
    shared = make_head(patches=True)
    assert shared.last_layer2 is None
    assert torch.equal(shared.patches(tokens), shared(tokens))
    apart = make_head(patches=True, patch_out_dim=10)
    peer = torch_head(apart, last=apart.last_layer2)
    expected = torch_forward(peer, tokens.double())
    torch.testing.assert_close(apart.patches(tokens).double(), expected, rtol=1e-5, atol=1e-5)
    assert apart(tokens).shape == (5, 12)


def test_norm_last_layer_freezes_the_norms_at_one():
    frozen, trained = (
        ProjectionHead(16, 12, 24, 8, norm_last_layer=flag).last_layer for flag in (True, False)
    )
    for layer in (frozen, trained):
        assert layer.weight_g.shape == (12, 1)
        assert torch.equal(layer.weight_g, torch.ones(12, 1))
        assert layer.weight_v.requires_grad
    assert trained.weight_g.requires_grad and not frozen.weight_g.requires_grad
    assert {n for n, _ in frozen.named_parameters()} == {"weight_g", "weight_v"}


def test_unit_bottleneck_and_unit_prototypes_give_cosines():
    head = ProjectionHead(16, 12, 24, 8)
    assert float(head(100 * torch.randn(50, 16)).detach().abs().max()) <= 1 + 1e-6


def test_batch_norm_keeps_statistics_for_cls_and_patches_apart():
    head = make_head(batch_norm=True, patches=True)
    running = {k: v.clone() for k, v in head.named_buffers()}
    head(torch.randn(6, 16))
    moved = {k for k, v in head.named_buffers() if not torch.equal(v, running[k])}
    assert moved and all(name.startswith("norms.") for name in moved)
    running = {k: v.clone() for k, v in head.named_buffers()}
    head.patches(torch.randn(6, 16) + 3)
    changed = {k for k, v in head.named_buffers() if not torch.equal(v, running[k])}
    assert changed == {f"patch_{name}" for name in moved}


@pytest.mark.parametrize("rows", [0, 1])
def test_batch_norm_copes_with_few_rows(rows):
    """An unmasked batch has no patch rows; they neither break nor move the statistics."""
    head = make_head(batch_norm=True, patches=True)
    head.patches(torch.randn(64, 16) + 2)  # statistics that are not the fresh ones
    running = {k: v.clone() for k, v in head.named_buffers()}
    x = torch.randn(rows, 16)
    trained = head.patches(x)
    trained.sum().backward()
    assert trained.shape == (rows, 12) and bool(trained.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in head.patch_norms.parameters())
    assert all(torch.equal(v, running[k]) for k, v in head.named_buffers())
    assert torch.equal(trained, head.eval().patches(x))


def test_update_teacher_is_an_ema_by_name():
    student = nn.ModuleDict({"a": WeightNormLinear(4, 3, True), "mask": nn.Linear(2, 2)})
    student["norm"] = nn.BatchNorm1d(4)
    teacher = nn.ModuleDict({"norm": nn.BatchNorm1d(4), "a": WeightNormLinear(4, 3, True)})
    make_teacher(student, teacher)
    before = weights(teacher)
    assert all(torch.equal(v, weights(student)[k]) for k, v in before.items())
    shake(student)
    student["norm"].running_mean += 5
    update_teacher(student, teacher, 0.75)
    for name, value in weights(teacher).items():
        expected = 0.75 * before[name].double() + 0.25 * weights(student)[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    assert float(teacher["norm"].running_mean.abs().max()) == 0  # buffers are not averaged


def test_make_teacher_refuses_a_student_that_lacks_a_weight():
    with pytest.raises(RuntimeError, match="Missing key"):
        make_teacher(nn.Identity(), nn.Linear(2, 2))
