import pytest
import torch
from torch.nn.functional import linear as torch_linear

from sslbench.system import products
from sslbench.system.products import FastProducts, linear, prefers_onednn

ONEDNN = torch.backends.mkldnn.is_available()


@pytest.fixture(params=["torch", "oneDNN"])
def library(request, monkeypatch):
    if request.param == "oneDNN" and not ONEDNN:
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(products, "prefers_onednn", lambda: request.param == "oneDNN")


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


def test_what_learns_and_other_precisions_are_torch_s(library):
    x, weight = torch.randn(3, 4), torch.randn(2, 4, requires_grad=True)
    linear(x, weight).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(2, 4))
    with torch.no_grad():
        for kind in (torch.float64, torch.bfloat16):
            a, b = x.to(kind), weight.to(kind)
            assert torch.equal(linear(a, b), torch_linear(a, b))
        with torch.autocast("cpu", torch.bfloat16):
            assert linear(x, weight).dtype == torch.bfloat16


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
