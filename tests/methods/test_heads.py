"""The projection head against torch's own weight norm."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sslbench.method import true_places
from sslbench.methods.heads import ProjectionHead, WeightNormLinear, official_head
from tests.methods.small import shake


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


@pytest.mark.parametrize("rows", [7, 20])  # fewer and more than the 8 values of the bottleneck
@pytest.mark.parametrize("batch_norm", [False, True])
def test_equals_torchs_weight_norm(batch_norm, rows):
    head = make_head(batch_norm=batch_norm)
    peer = torch_head(head, head.norms if batch_norm else None)
    x, weight = torch.randn(rows, 16), torch.randn(rows, 12)
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
    cls, patches, wanted = torch.randn(3, 16), torch.randn(3, 4, 16), torch.rand(3, 4) < 0.5
    for head in (make_head(), make_head(patch_out_dim=10)):
        peer = torch_head(head, last=head.last_layer2 or head.last_layer)
        ours = head.tokens(cls, patches, true_places(wanted))
        assert torch.equal(ours[0], head(cls)) and ours[0].shape == (3, 12)
        expected = torch_forward(peer, patches[wanted].double())
        torch.testing.assert_close(ours[1].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_batch_norm_takes_its_statistics_over_all_tokens(share):
    """One set of them for [CLS] and patches, whichever patches are wanted."""
    head = make_head(batch_norm=True)
    peer = torch_head(head, head.norms)
    cls, patches, wanted = torch.randn(3, 16), torch.randn(3, 4, 16) + 1, torch.rand(3, 4) < share
    rows = torch.cat([cls[:, None], patches], 1).flatten(0, 1).double()
    expected = torch_forward(peer, rows).unflatten(0, (3, 5))
    for ours, theirs in zip(
        head.tokens(cls, patches, true_places(wanted)),
        (expected[:, 0], expected[:, 1:][wanted]),
        strict=True,
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(head.norms.buffers(), peer["norms"].buffers(), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_norms_of_their_own_see_the_wanted_patches_alone(share):
    """What the embedded recipes use; without a wanted patch nothing is remembered of any."""
    head = make_head(batch_norm=True, patch_norms=True)
    peers = [torch_head(head, norms) for norms in (head.norms, head.patch_norms)]
    cls, patches, wanted = torch.randn(6, 16), torch.randn(6, 4, 16) + 1, torch.rand(6, 4) < share
    ours = head.tokens(cls, patches, true_places(wanted))
    torch.testing.assert_close(
        ours[0].double(), torch_forward(peers[0], cls.double()), rtol=1e-5, atol=1e-5
    )
    if wanted.any():
        expected = torch_forward(peers[1], patches[wanted].double())
        torch.testing.assert_close(ours[1].double(), expected, rtol=1e-5, atol=1e-5)
    for norms, peer in zip((head.norms, head.patch_norms), peers, strict=True):
        for mine, theirs in zip(norms.buffers(), peer["norms"].buffers(), strict=True):
            torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-5, atol=1e-6)


def test_each_hidden_layer_has_a_norm_of_its_own():
    """ibot/models/head.py:70-87 uses one module twice: the same logits until its weights move."""
    torch.manual_seed(0)
    head, x = ProjectionHead(16, 12, 24, 8, batch_norm=True), torch.randn(9, 16)
    ours = head(x)
    first, second = head.norms
    assert not {id(t) for t in first.state_dict(keep_vars=True).values()} & {
        id(t) for t in second.state_dict(keep_vars=True).values()
    }
    assert not torch.allclose(first.running_mean, second.running_mean)
    head.norms[1] = first
    assert torch.equal(head(x), ours)


def test_an_official_head_with_batch_norm_is_read():
    """dino/vision_transformer.py:257-291 with use_bn; ours had other norms for patches once."""
    mlp = nn.Sequential(
        nn.Linear(16, 24), nn.BatchNorm1d(24), nn.GELU(),
        nn.Linear(24, 24), nn.BatchNorm1d(24), nn.GELU(), nn.Linear(24, 8),
    )  # fmt: skip
    mlp(torch.randn(50, 16) + 1)  # statistics that are not the fresh ones
    last = shake(WeightNormLinear(8, 12, True))
    tensors = {f"mlp.{k}": v for k, v in mlp.state_dict().items()}
    tensors |= {f"last_layer.{k}": v for k, v in last.state_dict().items()}
    ours, x = official_head(tensors).eval(), torch.randn(5, 16)
    torch.testing.assert_close(ours(x), last(F.normalize(mlp.eval()(x), dim=-1)))
    former = ours.state_dict()
    former |= {f"patch_{k}": v + 1 for k, v in former.items() if k.startswith("norms.")}
    assert torch.equal(official_head(former).eval()(x), ours(x))


@pytest.mark.parametrize(("second", "own"), [(None, False), ("alias", False), ("own", True)])
def test_an_official_head_tells_whether_it_is_shared(second, own):
    """A semi-shared run's file: the teacher's last_layer2 is last_layer, the student's is not."""
    head = make_head(patch_out_dim=12)
    tensors = {}
    for i, layer in zip((0, 2, 4), head.layers, strict=True):
        tensors |= {f"mlp.{i}.{k}": v for k, v in layer.state_dict().items()}
    tensors |= {f"last_layer.{k}": v for k, v in head.last_layer.state_dict().items()}
    other = head.last_layer2 if second == "own" else head.last_layer
    if second:
        tensors |= {f"last_layer2.{k}": v for k, v in other.state_dict().items()}
    read, x = official_head(tensors), torch.randn(2, 3, 16)
    assert (read.last_layer2 is not None) is own
    everything = torch.ones(2, 3, dtype=torch.bool)
    cls, patches = read.tokens(x[:, 0], x, true_places(everything))
    assert torch.equal(cls, head(x[:, 0]))
    wanted = head.tokens(x[:, 0], x, true_places(everything))[1] if own else head(x.flatten(0, 1))
    torch.testing.assert_close(patches, wanted)


def test_the_head_of_a_run_of_version_0_1_0_is_read():
    """It had norms of its own for patches; every key is accounted for where it is loaded."""
    head, x = make_head(batch_norm=True), torch.randn(9, 16) + 1
    head(x)
    former = {k: v.clone() for k, v in head.state_dict().items()}
    former |= {
        k.replace("norms.", "patch_norms."): v + 1 for k, v in former.items() if "norms." in k
    }
    read = ProjectionHead(16, 12, 24, 8, False, batch_norm=True).eval()
    assert not any(read.load_state_dict(dict(former), strict=False))
    assert torch.equal(read(x), head.eval()(x))
    former["patches.0.bias"] = torch.zeros(1)
    assert read.load_state_dict(dict(former), strict=False).unexpected_keys == ["patches.0.bias"]
    whole = nn.ModuleDict({"head": read})  # a training that went on from it would be another
    assert whole.load_state_dict({f"head.{k}": v for k, v in former.items()}, strict=False)[1]


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


@pytest.mark.parametrize("rows", [128, 256])
def test_prototypes_keep_their_lengths_in_bf16(rows):
    """Those of few rows, which scale the outputs, as those of many, which scale the weights."""
    last = WeightNormLinear(256, 4096, False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        weights = torch.cat([last(part).double() for part in torch.eye(256).split(rows)])
    lengths = weights.norm(dim=0)
    assert (lengths - 1).abs().max() < 1e-3
