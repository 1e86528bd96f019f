"""Matrix products without gradients, by the library that makes them fastest on this processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sslbench.system.machine import cpu_flags, cpu_vendor

VENDOR = "AuthenticAMD"


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
    """As `torch.nn.functional.linear`, up to rounding in the tensors' own precision.

    x: (..., D); weight: (E, D), of any strides; bias: (E,). What needs a gradient, or is not
    float32 on a CPU, is left to torch.
    """
    kinds = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    wants = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if not kinds or wants or torch.is_autocast_enabled("cpu") or not prefers_onednn():
        return torch.nn.functional.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class FastProducts(TorchFunctionMode):
    """Within it every `torch.nn.functional.linear`, those of modules included, is `linear`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.nn.functional.linear:
            func = linear
        return func(*args, **(kwargs or {}))
