"""The layers after attention equal timm's, and keep one wide tensor for the backward pass."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Mlp as TimmMlp
from torch import Tensor, nn

from sslbench.backbones.mlp import Mlp


@pytest.fixture
def pair() -> tuple[nn.Module, Mlp]:
    torch.manual_seed(0)
    theirs = TimmMlp(32, 128)
    return theirs, Mlp.of(theirs)


def gradients(module: nn.Module, x: Tensor, cotangent: Tensor) -> list[Tensor]:
    """The output, and the gradients of x and of all parameters."""
    x = x.clone().requires_grad_()
    y = module(x)
    found = torch.autograd.grad(y, [x, *module.parameters()], cotangent.to(y.dtype))
    return [y.detach(), *found]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_outputs_and_gradients_equal_timms(pair: tuple[nn.Module, Mlp], dtype: torch.dtype) -> None:
    x, cotangent = torch.randn(2, 3, 5, 32, dtype=dtype).unbind()
    theirs, ours = (gradients(module.to(dtype), x, cotangent) for module in pair)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13 if dtype.itemsize == 8 else 2e-6)


def test_under_autocast_it_rounds_as_timms_does(pair: tuple[nn.Module, Mlp]) -> None:
    x, cotangent = torch.randn(2, 64, 5, 32).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = (gradients(module, x, cotangent) for module in pair)
    assert [a.dtype for a in ours] == [a.dtype for a in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert (our.float() - their.float()).norm() <= 4e-3 * their.float().norm()


def test_frozen_layers_get_no_gradient(pair: tuple[nn.Module, Mlp]) -> None:
    _, ours = pair
    ours.fc2.requires_grad_(False)
    x = torch.randn(4, 32, requires_grad=True)
    ours(x).sum().backward()
    assert x.grad is not None and ours.fc1.weight.grad is not None
    assert ours.fc2.weight.grad is None and ours.fc2.bias.grad is None


def kept(module: nn.Module, x: Tensor) -> int:
    """Numbers kept for the backward pass, but for the parameters and x."""
    others = {p.untyped_storage().data_ptr() for p in (x, *module.parameters())}
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in others:
            found[storage.data_ptr()] = storage.nbytes() // tensor.itemsize
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = module(x)
    del result
    return sum(found.values())


def test_one_wide_tensor_is_kept_where_timm_keeps_two(pair: tuple[nn.Module, Mlp]) -> None:
    x = torch.randn(10, 32)
    theirs, ours = (kept(module, x) for module in pair)
    assert (theirs, ours) == (2 * 10 * 128, 10 * 128)


def test_a_second_derivative_is_refused(pair: tuple[nn.Module, Mlp]) -> None:
    """Beside a residual, torch's own refusal gave a wrong one without a word."""
    x = torch.randn(4, 32, requires_grad=True)
    y = x + pair[1](x)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(y.square().sum(), x, create_graph=True)
