"""iBOT's Swin, rewritten in float64 without windows: every padded place looks at every other."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

WIDTH, DEPTHS, HEADS = 8, (2, 2, 2, 2), (1, 2, 2, 4)


def windows_of(side, window, block):
    """(window, shift) of a block: one window and no shift where the stage is no larger."""
    return (side, 0) if side <= window else (window, window // 2 if block % 2 else 0)


def reach(height, width, window, shift):
    """Between all pairs of padded, shifted places: -inf outside a window, -100 across its border;
    and the entry of the bias table, (places, places)."""
    regions, cells, inner = [], [], []
    for size in (height, width):
        at = np.arange(size)
        border = np.searchsorted([size - window, size - shift], at, side="right") if shift else 0
        regions.append(np.broadcast_to(border, size))
        cells.append(at // window)
        inner.append(at % window)

    def flat(rows, columns):
        return [x.ravel() for x in np.meshgrid(rows, columns, indexing="ij")]

    def apart(pair):
        return [x[:, None] - x[None] for x in flat(*pair)]

    outside = np.any(apart(cells), axis=0)
    across = np.any(apart(regions), axis=0)
    down, right = apart(inner)
    entry = (down + window - 1) * (2 * window - 1) + right + window - 1
    addend = np.where(outside, -np.inf, np.where(across, -100.0, 0.0))
    return torch.from_numpy(addend), torch.from_numpy(np.where(outside, 0, entry))


def attention(x, w, heads, window, shift):
    """x: (B, h, w, D) normed; every padded place attends to every other, subject to `reach`."""
    height, width = x.shape[1:3]
    tall, wide = (math.ceil(n / window) * window for n in (height, width))
    padded = torch.zeros(len(x), tall, wide, x.shape[3], dtype=x.dtype)
    padded[:, :height, :width] = x
    rows, columns = ((torch.arange(n) + shift) % n for n in (tall, wide))
    y = padded[:, rows][:, :, columns].flatten(1, 2)
    qkv = (y @ w["attn.qkv.weight"].T + w["attn.qkv.bias"]).chunk(3, -1)
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in qkv)
    addend, entry = reach(tall, wide, window, shift)
    bias = w["attn.relative_position_bias_table"][entry].permute(2, 0, 1)
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + bias + addend
    y = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2).unflatten(1, (tall, wide))
    back = torch.zeros_like(y)
    back[:, rows[:, None], columns] = y
    return back[:, :height, :width] @ w["attn.proj.weight"].T + w["attn.proj.bias"]


def reference(weights, config, images, mask=None):
    """[(B, h, w, D) after every block], the last also through the final norm, in float64."""
    w = {k: v.detach().double() for k, v in weights.items()}

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    x = F.conv2d(images.double(), w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], 4)
    x = norm(x.permute(0, 2, 3, 1), "patch_embed.norm")
    if mask is not None:
        for image, row, column in mask.nonzero().tolist():
            x[image, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = w["mask_token"]
    outputs = []
    for stage, depth in enumerate(DEPTHS):
        side = config.image_size // 4 // 2**stage
        for i in range(depth):
            name = f"layers.{stage}.blocks.{i}"
            b = {k.removeprefix(f"{name}."): v for k, v in w.items() if k.startswith(name)}
            window = windows_of(side, config.window, i)
            x = x + attention(norm(x, f"{name}.norm1"), b, HEADS[stage], *window)
            y = F.gelu(norm(x, f"{name}.norm2") @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"])
            x = x + y @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"]
            outputs.append(x)
        if stage < 3:
            x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
            corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
            name = f"layers.{stage}.downsample"
            x = norm(torch.cat(corners, -1), f"{name}.norm") @ w[f"{name}.reduction.weight"].T
    return [*outputs[:-1], outputs[-1], norm(x, "norm")]
