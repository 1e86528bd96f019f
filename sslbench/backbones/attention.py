"""Self-attention under timm's names, in parts, so that a last block computes what is read of it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d) + bias) v for every head, and a projection of the heads' outputs.

    A subclass gives queries, keys and values their own biases.
    """

    def __init__(self, qkv: nn.Linear, proj: nn.Linear, heads: int) -> None:
        super().__init__()
        self.qkv, self.proj, self.num_heads = qkv, proj, heads

    @classmethod
    def of(cls, attention: Any) -> Attention:
        """With the very layers of timm's attention."""
        return cls(attention.qkv, attention.proj, attention.num_heads)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x: (B, N, D); bias: (1, heads, N, N), added to the logits."""
        return self.proj(self.mixed(x, bias))

    def mixed(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The heads' outputs side by side, (B, N, D), before the projection."""
        q, k, v = self._heads(F.linear(x, self.qkv.weight, self._bias()), 3)
        return _merged(attend(q, k, v, bias))

    def of_first(self, x: Tensor) -> Tensor:
        """As `forward`, of the first token alone: (B, N, D) -> (B, 1, D)."""
        width, weight, bias = x.shape[2], self.qkv.weight, self._bias()
        q = self._heads(F.linear(x[:, :1], weight[:width], bias[:width]), 1)[0]
        k, v = self._heads(F.linear(x, weight[width:], bias[width:]), 2)
        return self.proj(_merged(fused(q, k, v)))

    def _bias(self) -> Tensor:
        return self.qkv.bias

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, N, parts D) -> that many (B, heads, N, D / heads)."""
        return x.unflatten(2, (parts, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of (B, heads, N, D / heads) by the kernel that is fastest where they are.

    On CPUs that is the written one in bf16, and where the bias is trained, for which torch has no
    fused backward pass.
    """
    trained = bias is not None and bias.requires_grad
    slow = not q.is_cuda and (q.dtype == torch.bfloat16 or trained)
    return (written if slow else fused)(q, k, v, bias)


def fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    bias = None if bias is None else bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def written(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1) @ v


def _merged(x: Tensor) -> Tensor:
    """(B, heads, N, D / heads) -> (B, N, D)."""
    return x.transpose(1, 2).flatten(2)
