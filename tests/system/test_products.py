from contextlib import nullcontext

import pytest
import torch
from torch.nn.functional import linear as torch_linear
from torch.utils.flop_counter import FlopCounterMode

from sslbench.system import products
from sslbench.system.products import FastProducts, linear, prefers_onednn

ONEDNN = torch.backends.mkldnn.is_available()


@pytest.fixture(params=["torch", "oneDNN"])
def library(request, monkeypatch):
    if request.param == "oneDNN" and not ONEDNN:
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(products, "prefers_onednn", lambda: request.param == "oneDNN")
    monkeypatch.setattr(products, "LEAST", 0)


@pytest.mark.parametrize("shape", [(7, 40), (2, 5, 40), (0, 40)])
@pytest.mark.parametrize("turned", [False, True])
def test_equals_the_formula(library, shape, turned):
    rng = torch.Generator().manual_seed(0)
    x, bias = torch.randn(shape, generator=rng), torch.randn(11, generator=rng)
    weight = torch.randn((40, 11) if turned else (11, 40), generator=rng)
    weight = weight.T if turned else weight
    wanted = x.double() @ weight.double().T
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight).double(), wanted, atol=1e-5, rtol=0)
        found = linear(x, weight, bias).double()
    torch.testing.assert_close(found, wanted + bias, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(7, 40), (2, 5, 40), (1, 40)])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("frozen", [None, 0, 1, 2])
def test_gradients_equal_the_formula(library, shape, with_bias, frozen):
    """In a context that makes a layer's products too; frozen: the input that has no gradient."""
    rng = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=rng), *torch.randn(2, 11, 40, generator=rng).unbind()]
    tensors[2] = tensors[2][:, 0].clone()
    for i, tensor in enumerate(tensors):
        tensor.requires_grad_(i != frozen and (i < 2 or with_bias))
    x, weight, bias = tensors
    with FastProducts():
        y = torch.nn.functional.linear(x, weight, bias if with_bias else None)
    slope = torch.randn(y.shape, generator=rng)
    y.backward(slope)
    rows, dy = x.detach().double().flatten(0, -2), slope.double().flatten(0, -2)
    wanted = (dy @ weight.detach().double(), dy.T @ rows, dy.sum(0))
    for tensor, gradient in zip(tensors, wanted, strict=True):
        if tensor.requires_grad:
            assert tensor.grad is not None and tensor.grad.dtype == torch.float32
            found = tensor.grad.double()
            torch.testing.assert_close(found, gradient.view_as(found), atol=1e-4, rtol=0)
        else:
            assert tensor.grad is None


def test_a_gradient_has_gradients(library):
    x, weight = torch.randn(7, 40, requires_grad=True), torch.randn(11, 40, requires_grad=True)
    found = []
    for context in (FastProducts(), nullcontext()):
        with context:
            y = torch_linear(x, weight)
            (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
            found.append(torch.autograd.grad(y.mean() + slope.square().sum(), (x, weight)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_other_shapes_are_torch_s(library):
    x, weight = torch.randn(5, 40, requires_grad=True), torch.randn(11, 40, requires_grad=True)
    with FastProducts():
        for given in (
            lambda: torch_linear(x[0], weight),
            lambda: torch_linear(x, weight[0]),
            lambda: torch_linear(x, weight, torch.randn(1)),
            lambda: torch_linear(input=x, weight=weight),
        ):
            given().sum().backward()


def test_products_are_counted(library):
    with FlopCounterMode(display=False) as counter, FastProducts():
        x, weight = torch.randn(2, 5, 40), torch.randn(11, 40, requires_grad=True)
        torch.nn.functional.linear(x, weight).sum().backward()
    assert counter.get_total_flops() == 2 * 2 * 10 * 40 * 11


def test_other_precisions_are_torch_s(library):
    x, weight = torch.randn(3, 4), torch.randn(2, 4)
    for kind in (torch.float64, torch.bfloat16):
        a, b = x.to(kind), weight.to(kind)
        assert torch.equal(linear(a, b), torch_linear(a, b))
    with torch.autocast("cpu", torch.bfloat16), FastProducts():
        assert torch.nn.functional.linear(x, weight).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("vendor", "flags", "wanted"),
    [
        ("AuthenticAMD", {"avx512f"}, ONEDNN),
        ("AuthenticAMD", {"avx2"}, False),
        ("GenuineIntel", {"avx512f"}, False),
        ("", set(), False),
    ],
)
def test_onednn_is_for_amds_wide_vectors(monkeypatch, vendor, flags, wanted):
    monkeypatch.setattr(products, "cpu_vendor", lambda: vendor)
    monkeypatch.setattr(products, "cpu_flags", lambda: flags)
    assert prefers_onednn.__wrapped__() is wanted


@torch.no_grad()
def test_modules_are_multiplied_so_within_the_mode(monkeypatch):
    seen = []

    def counted(x, weight, bias=None):
        seen.append(x.shape)
        return linear(x, weight, bias)

    layer, x = torch.nn.Linear(4, 3), torch.randn(5, 4)
    monkeypatch.setattr(products, "linear", counted)
    with FastProducts():
        found = layer(x)
    torch.testing.assert_close(found, layer(x))
    assert seen == [(5, 4)]
