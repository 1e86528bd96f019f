"""The published losses, written anew in float64 for the tests to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from sslbench.method import ViewBatch

STUDENT_TEMP = 0.1


def cross_entropy(logits: np.ndarray, target: np.ndarray, tau: float) -> tuple[float, np.ndarray]:
    """-target . log softmax(logits / tau) and its gradient by the logits (K,)."""
    scaled = logits / tau
    log_p = scaled - scaled.max() - np.log(np.exp(scaled - scaled.max()).sum())
    return -(target @ log_p), (np.exp(log_p) * target.sum() - target) / tau


def numpy_cls_loss(student: np.ndarray, teacher: np.ndarray, tau: float):
    """DINO eq. 3 pair by pair; student (V, B, K), teacher (G, B, K); the loss and its gradient."""
    images = student.shape[1]
    pairs = [(q, v) for q in range(len(teacher)) for v in range(len(student)) if q != v]
    loss, gradient = 0.0, np.zeros_like(student)
    for (q, v), b in product(pairs, range(images)):
        value, slope = cross_entropy(student[v, b], teacher[q, b], tau)
        loss += value / images / len(pairs)
        gradient[v, b] += slope / images / len(pairs)
    return loss, gradient


def numpy_patch_loss(student: np.ndarray, teacher: np.ndarray, mask: np.ndarray, tau: float):
    """iBOT's MIM loss token by token; all (V, B, N[, K]); the loss and its gradient."""
    views, images, patches = mask.shape
    loss, gradient = 0.0, np.zeros_like(student)
    for v, b in product(range(views), range(images)):
        share = 1 / max(1, mask[v, b].sum()) / images / views
        for i in range(patches):
            if mask[v, b, i]:
                value, slope = cross_entropy(student[v, b, i], teacher[v, b, i], tau)
                loss += value * share
                gradient[v, b, i] = slope * share
    return loss, gradient


def normalised(batch: ViewBatch, name: str) -> Tensor:
    mean, std = (torch.tensor(x).double().view(3, 1, 1) for x in (batch.mean, batch.std))
    return (batch.crops[name].double() / 255 - mean) / std


def sharpen(logits: Tensor, centre: Tensor, tau: float) -> Tensor:
    return torch.softmax((logits - centre) / tau, dim=-1).detach()


def crossed(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of every row, with the student's temperature."""
    return -(teacher * torch.log_softmax(student / STUDENT_TEMP, dim=-1)).sum(-1)


def project(head: nn.Module, rows: Tensor) -> Tensor:
    """Unit bottleneck vectors (N, C) of tokens (N, D) that share their batch statistics."""
    for layer, norm in zip(head.layers[:2], head.norms, strict=True):
        rows = rows @ layer.weight.T + layer.bias
        if isinstance(norm, nn.BatchNorm1d):
            centred = rows - rows.sum(0) / len(rows)
            spread = ((centred**2).sum(0) / len(rows) + 1e-5).sqrt()
            rows = norm.weight * centred / spread + norm.bias
        rows = rows * (1 + torch.erf(rows / 2**0.5)) / 2
    rows = rows @ head.layers[2].weight.T + head.layers[2].bias
    return rows / (rows**2).sum(-1, keepdim=True).sqrt()


def prototypes(layer: nn.Module, unit: Tensor) -> Tensor:
    """Logits (..., K) of unit vectors (..., C)."""
    v = layer.weight_v
    return unit @ (layer.weight_g * v / (v**2).sum(-1, keepdim=True).sqrt()).T


def mean_entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1).mean()


def worst(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Largest difference of any tensor, relative to that tensor's largest entry.

    Tensors whose entries are below 1e-3 of the overall largest count as that large: a key's bias
    has no gradient but rounding noise.
    """
    assert set(ours) == set(theirs)
    sizes = {k: float(t.detach().abs().max()) for k, t in theirs.items()}
    floor = 1e-3 * max(sizes.values())
    gaps = {
        k: float((ours[k].detach().double() - t.detach()).abs().max()) for k, t in theirs.items()
    }
    return max(gaps[k] / max(sizes[k], floor) for k in gaps)


def slopes(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
