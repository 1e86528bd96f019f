"""State dicts as others publish them, written from their documented names and shapes, and a plain
float64 forward of every ViT among them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sslbench.checkpoints.releases import Release

TINY_RELEASE = Release(
    "tiny",
    "dino",
    "ViT-Nano/16",
    "IN-1K",
    10,
    "https://example.org/tiny.pth",
    "tiny.pth",
    views=3.84,
)
NANO = {"width": 16, "depth": 2}  # what `tiny_vit` makes of vit_nano, with 2 heads


def fresh(shapes, seed=0, std=0.02):
    """Random tensors: norms near 1, everything else of `std`."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {k: std * torch.randn(s, generator=generator) for k, s in shapes.items()}
    return {k: 1 + 5 * v if k.endswith(("norm.weight", "norm1.weight", "norm2.weight")) else v
            for k, v in drawn.items()}  # fmt: skip


def block(d, name):
    """A pre-norm block with one bias for queries, keys and values."""
    shapes = {f"norm{i}.{part}": (d,) for i in (1, 2) for part in ("weight", "bias")}
    for layer, out, wide in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1)):
        shapes |= {f"{layer}.weight": (out * d, wide * d), f"{layer}.bias": (out * d,)}
    shapes |= {"mlp.fc2.weight": (d, 4 * d), "mlp.fc2.bias": (d,)}
    return {f"{name}.{k}": s for k, s in shapes.items()}


def vit(width=384, depth=12, patch=16, grid=14, layer_scale=False, registers=0, norm=True):
    """dino/vision_transformer.py:134-171; DINOv2's with `layer_scale` and `registers`."""
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + grid**2, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, patch, patch)}
    shapes |= {"patch_embed.proj.bias": (width,)}
    for i in range(depth):
        shapes |= block(width, f"blocks.{i}")
        if layer_scale:
            shapes |= {f"blocks.{i}.ls{j}.gamma": (width,) for j in (1, 2)}
    if registers:
        shapes["register_tokens"] = (1, registers, width)
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)} if norm else {}
    return fresh(shapes)


def beit(
    width=768, depth=12, heads=12, grid=14, positions="shared relative", scale=True, norm=True
):
    """beit/modeling_pretrain.py:33-128, beit/modeling_finetune.py:62-128,196-330."""
    t = {k: v for k, v in vit(width, depth, grid=grid, norm=norm).items() if "qkv.bias" not in k}
    shapes = {"mask_token": (1, 1, width)}
    table = ((2 * grid - 1) ** 2 + 3, heads)
    for i in range(depth):
        shapes |= {f"blocks.{i}.attn.{n}_bias": (width,) for n in "qv"}
        shapes |= {f"blocks.{i}.gamma_{j}": (width,) for j in (1, 2)} if scale else {}
        if positions == "relative":
            shapes[f"blocks.{i}.attn.relative_position_bias_table"] = table
    if positions == "shared relative":
        shapes["rel_pos_bias.relative_position_bias_table"] = table
    if positions != "absolute":
        del t["pos_embed"]
    index = {k.replace("bias_table", "index"): torch.zeros(1 + grid**2, 1 + grid**2).long()
             for k in shapes if k.endswith("bias_table")}  # fmt: skip
    return t | fresh(shapes, 1, 0.3) | index


def swin(width=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), windows=(7, 7, 7, 7)):
    """ibot/models/swin_transformer.py; `windows` as shrunk to the stages."""
    shapes = {"patch_embed.proj.weight": (width, 3, 4, 4), "patch_embed.proj.bias": (width,)}
    shapes |= {f"patch_embed.norm.{part}": (width,) for part in ("weight", "bias")}
    index = {}
    for s, depth in enumerate(depths):
        d = width << s
        for b in range(depth):
            name = f"layers.{s}.blocks.{b}"
            shapes |= block(d, name)
            shapes[f"{name}.attn.relative_position_bias_table"] = (
                (2 * windows[s] - 1) ** 2, heads[s])  # fmt: skip
            cells = windows[s] ** 2
            index[f"{name}.attn.relative_position_index"] = torch.zeros(cells, cells).long()
        if s < 3:
            shapes[f"layers.{s}.downsample.reduction.weight"] = (2 * d, 4 * d)
            shapes |= {f"layers.{s}.downsample.norm.{p}": (4 * d,) for p in ("weight", "bias")}
    shapes |= {f"norm.{part}": (8 * width,) for part in ("weight", "bias")}
    return fresh(shapes) | index


def head(width, out=11, hidden=12, bottleneck=8, second=None, norms=False):
    """dino/vision_transformer.py:257-291, ibot/models/head.py:65-199; `second`: last_layer2."""
    places = (0, 3, 6) if norms else (0, 2, 4)
    sizes = ((hidden, width), (hidden, hidden), (bottleneck, hidden))
    shapes = {}
    for place, size in zip(places, sizes, strict=True):
        shapes |= {f"mlp.{place}.weight": size, f"mlp.{place}.bias": size[:1]}
    if norms:
        parts = ("weight", "bias", "running_mean", "running_var")
        shapes |= {f"mlp.{place}.{part}": (hidden,) for place in (1, 4) for part in parts}
    shapes["last_layer.weight_v"] = (out, bottleneck)
    t = fresh(shapes, 2, 0.3)
    t["last_layer.weight_g"] = 1 + 0.1 * torch.randn(out, 1)
    for place in (1, 4) if norms else ():
        t[f"mlp.{place}.running_var"] = 1 + t[f"mlp.{place}.running_var"].abs()
        t[f"mlp.{place}.num_batches_tracked"] = torch.tensor(3)
    if second == "shared":
        t |= {k.replace("last_layer", "last_layer2"): v for k, v in t.items() if "last_layer" in k}
    elif second:
        t["last_layer2.weight_v"] = torch.randn(second, bottleneck)
        t["last_layer2.weight_g"] = torch.ones(second, 1)
    return t


def prefixed(tensors, prefix):
    return {prefix + k: v for k, v in tensors.items()}


@torch.no_grad()
def forward(t, heads, images):
    """(B, 1 + N, D): [CLS] and patches after the final norm, in float64, from official names.

    Positions by the +0.1 rule of dino/vision_transformer.py:174-194, registers without positions
    between the two.
    """
    w = lambda name: t[name].double()  # noqa: E731
    norm = lambda x, n: F.layer_norm(x, x.shape[-1:], w(f"{n}.weight"), w(f"{n}.bias"), 1e-6)  # noqa: E731
    kernel = w("patch_embed.proj.weight")
    x = F.conv2d(images.double(), kernel, w("patch_embed.proj.bias"), kernel.shape[-1])
    grid, x = x.shape[2:], x.flatten(2).transpose(1, 2)
    x = torch.cat([w("cls_token").expand(len(x), -1, -1), x], 1)
    table = w("pos_embed")
    side = int((table.shape[1] - 1) ** 0.5)
    square = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if tuple(grid) != (side, side):
        scale = [(n + 0.1) / side for n in grid]
        square = F.interpolate(square, scale_factor=scale, mode="bicubic")
    x = x + torch.cat([table[:, :1], square.flatten(2).transpose(1, 2)], 1)
    extra = t["register_tokens"].shape[1] if "register_tokens" in t else 0
    if extra:
        x = torch.cat([x[:, :1], w("register_tokens").expand(len(x), -1, -1), x[:, 1:]], 1)
    for i in range(sum(k.endswith("attn.proj.weight") for k in t)):
        b = f"blocks.{i}"
        scales = [w(k) if (k := f"{b}.ls{j}.gamma") in t else 1.0 for j in (1, 2)]
        qkv = norm(x, f"{b}.norm1") @ w(f"{b}.attn.qkv.weight").T + w(f"{b}.attn.qkv.bias")
        q, k, v = (p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in qkv.chunk(3, -1))
        y = (
            ((q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) @ v)
            .transpose(1, 2)
            .flatten(2)
        )
        x = x + scales[0] * (y @ w(f"{b}.attn.proj.weight").T + w(f"{b}.attn.proj.bias"))
        y = F.gelu(norm(x, f"{b}.norm2") @ w(f"{b}.mlp.fc1.weight").T + w(f"{b}.mlp.fc1.bias"))
        x = x + scales[1] * (y @ w(f"{b}.mlp.fc2.weight").T + w(f"{b}.mlp.fc2.bias"))
    x = norm(x, "norm")
    return torch.cat([x[:, :1], x[:, 1 + extra :]], 1)
