"""float32 matrix products by the library that makes them fastest on this processor."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import register_flop_formula

from sslbench.system.machine import cpu_flags, cpu_vendor

VENDOR = "AuthenticAMD"
LEAST = 2_000_000  # multiplications; oneDNN's preparations take longer than fewer of them


@cache
def prefers_onednn() -> bool:
    """Whether torch's oneDNN multiplies float32 faster than its MKL, to which torch gives them.

    On AMD's processors MKL uses half of the vector's width: 103 GFLOP/s on a core of a Zen 5, where
    oneDNN reaches 235. Torch has no public switch: `_linear_pointwise` is what its compiler emits.
    """
    if cpu_vendor() != VENDOR or "avx512f" not in cpu_flags():
        return False
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`, gradients too, up to rounding in the tensors' precision.

    x: (..., D); weight: (E, D), of any strides; bias: (E,). What is small, of other shapes, or not
    float32 on a CPU, is left to torch.
    """
    if not _is_for_onednn(x, weight, bias) or torch.is_autocast_enabled("cpu"):
        return torch.nn.functional.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


def _is_for_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    floats = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    shapes = x.dim() > 1 and weight.dim() == 2 and (bias is None or bias.shape == weight.shape[:1])
    return floats and shapes and x.numel() * len(weight) >= LEAST and prefers_onednn()


class FastProducts(TorchFunctionMode):
    """A context in which every `torch.nn.functional.linear` of this thread is `linear`."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.nn.functional.linear and len(args) > 1:  # not by names
            func = linear
        return func(*args, **(kwargs or {}))


class _Linear(torch.autograd.Function):
    """y = x w^T + b,  dx = dy w,  dw = dy^T x,  db = sum of dy over the rows

    The backward pass is of `linear` again, and so can itself be differentiated.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = dy.flatten(0, -2)
        with torch.autocast("cpu", enabled=False):
            return (
                linear(dy, weight.T) if of_x else None,
                linear(rows.T, x.flatten(0, -2).T) if of_weight else None,
                rows.sum(0) if of_bias else None,
            )


def _flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    """What torch's counters say of a product; given are the tensors' shapes."""
    return 2 * x.numel() * weight[0]


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # not in every build of torch
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
