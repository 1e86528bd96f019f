"""The networks of the official code: vision_transformer.py of DINO and iBOT, their head, BEiT's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import weight_norm


class DropPath(nn.Module):
    """Computes every branch, and multiplies those that are left out by 0."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.rate or not self.training:
            return x
        keep = 1 - self.rate
        kept = (keep + torch.rand(len(x), 1, 1, dtype=x.dtype)).floor_()
        return x.div(keep) * kept


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        b, n, d = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attention = (q @ k.transpose(-2, -1)) * self.scale
        if bias is not None:
            attention = attention + bias
        return self.proj((attention.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """layer_scale: BEiT's, where it has one."""

    def __init__(self, width: int, heads: int, rate: float, layer_scale: bool = False) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width)
        self.drop_path = DropPath(rate)
        self.gamma_1 = nn.Parameter(torch.ones(width)) if layer_scale else 1.0
        self.gamma_2 = nn.Parameter(torch.ones(width)) if layer_scale else 1.0

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        if isinstance(self.gamma_1, float):
            x = x + self.drop_path(self.attn(self.norm1(x), bias))
            return x + self.drop_path(self.mlp(self.norm2(x)))
        x = x + self.drop_path(self.gamma_1 * self.attn(self.norm1(x), bias))
        return x + self.drop_path(self.gamma_2 * self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """All tokens after the final norm, [CLS] first; absolute positions, resized if need be."""

    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int, rate: float):
        super().__init__()
        self.patch, self.grid = patch, size // patch
        self.patch_embed = nn.Conv2d(3, width, patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, width))
        self.mask_token: nn.Parameter | None = nn.Parameter(torch.zeros(1, width))
        rates = torch.linspace(0, rate, depth).tolist()
        self.blocks = nn.ModuleList(Block(width, heads, r) for r in rates)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.patch_embed(images)
        side = x.shape[-1]
        if mask is not None:
            x = x.permute(0, 2, 3, 1).clone()
            x[mask] = self.mask_token.to(x.dtype)
            x = x.permute(0, 3, 1, 2)
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.positions(side)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def positions(self, side: int) -> Tensor:
        if side == self.grid:
            return self.pos_embed
        square = self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        factor = (side + 0.1) / self.grid
        square = F.interpolate(square, scale_factor=(factor, factor), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], square.flatten(2).transpose(1, 2)], dim=1)


class Head(nn.Module):
    """DINOHead: three layers, a unit vector, prototypes by torch's weight norm."""

    def __init__(self, width: int, out_dim: int, hidden: int, bottleneck: int) -> None:
        super().__init__()
        layers = [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        self.last_layer = weight_norm(nn.Linear(bottleneck, out_dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


RENAMED = (
    (r"^head\.layers\.(\d)", lambda m: f"head.mlp.{2 * int(m[1])}"),
    (r"\.ls(\d)\.gamma$", lambda m: f".gamma_{m[1]}"),
)


def renamed(name: str) -> str:
    """The name here of a parameter of ours."""
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    return name


def gradients(method: nn.Module, student: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Name here -> gradient, of our method's parameters and of those of the student here."""
    ours = {renamed(n.removeprefix("student.")): p.grad for n, p in method.named_parameters()}
    theirs = {n: p.grad for n, p in student.named_parameters()}
    found, wanted = ({n: g for n, g in d.items() if g is not None} for d in (ours, theirs))
    assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
    return found, wanted


def fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads weights under our names."""
    ours = {renamed(name): tensor for name, tensor in tensors.items()}
    network.load_state_dict(ours)
