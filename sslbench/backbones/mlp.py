"""The two layers after attention under timm's names, without keeping what is soon made again."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslbench.system.products import linear


class Mlp(nn.Module):
    """fc2(GELU(fc1(x)))"""

    def __init__(self, fc1: nn.Linear, fc2: nn.Linear) -> None:
        super().__init__()
        self.fc1, self.fc2 = fc1, fc2

    @classmethod
    def of(cls, mlp: Any) -> Mlp:
        """With the very layers of timm's."""
        return cls(mlp.fc1, mlp.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., N, D)."""
        hidden, weight, bias = self.fc1(x), self.fc2.weight, self.fc2.bias
        if torch.compiler.is_compiling() or not hidden.requires_grad:
            return F.linear(F.gelu(hidden), weight, bias)
        return _GeluLinear.apply(hidden, weight, bias)


class _GeluLinear(torch.autograd.Function):
    """y = GELU(h) w^T + b

    Of the two tensors of four times the width, h and GELU(h), h alone is kept for the backward
    pass, which makes the other anew.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        hidden, weight, bias = (t.detach() for t in (hidden, weight, bias))
        kind = hidden.dtype  # that of the products under autocast
        with torch.enable_grad():  # records nothing here: it tells a dry run what is trained
            return F.linear(F.gelu(hidden), weight.to(kind), bias.to(kind))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the second layer of an MLP has no second derivative")
        hidden, weight = ctx.saved_tensors
        of_hidden, of_weight, of_bias = ctx.needs_input_grad
        rows, dh, dw = dy.flatten(0, -2), None, None
        if of_hidden:
            dh = torch.ops.aten.gelu_backward(linear(dy, weight.to(dy.dtype).T), hidden)
        if of_weight:
            dw = linear(rows.T, F.gelu(hidden).flatten(0, -2).T).to(weight.dtype)
        return dh, dw, rows.sum(0).to(weight.dtype) if of_bias else None
