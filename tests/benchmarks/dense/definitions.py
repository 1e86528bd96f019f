"""What mmcv's operators are by definition: slow, in float64, differentiable."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def greedy(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> list[int]:
    """Suppression by its definition, in Python's floats."""
    corners = boxes.double().tolist()

    def overlap(a: list[float], b: list[float]) -> float:
        def area(x1: float, y1: float, x2: float, y2: float) -> float:
            return max(x2 - x1 + offset, 0.0) * max(y2 - y1 + offset, 0.0)

        shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
        return shared / (area(*a) + area(*b) - shared)

    kept: list[int] = []
    for i in sorted(range(len(corners)), key=lambda i: -float(scores[i])):
        if all(overlap(corners[i], corners[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def axis_weights(
    start: float, end: float, bins: int, pixels: int, samples: int, aligned: bool
) -> Tensor:
    """(bins, pixels): each bin's mean of linear samples along one axis, in float64."""
    start, end = (start - 0.5, end - 0.5) if aligned else (start, max(end, start + 1.0))
    extent = (end - start) / bins
    samples = samples or math.ceil(extent)
    weights = torch.zeros(bins, pixels, dtype=torch.float64)
    for b in range(bins):
        for s in range(samples):
            at = start + b * extent + (s + 0.5) * extent / samples
            if not -1 <= at <= pixels:
                continue  # beyond the border pixel's own extent there is nothing
            at = min(max(at, 0.0), pixels - 1.0)
            low = min(int(at), pixels - 2)
            weights[b, low] += (low + 1 - at) / samples
            weights[b, low + 1] += (at - low) / samples
    return weights


def slow_roi_align(
    images: Tensor, rois: Tensor, size: tuple[int, int], scale: float, samples: int, aligned: bool
) -> Tensor:
    """RoIAlign (Mask R-CNN, section 3) as two products with bilinear weights; differentiable."""
    height, width = images.shape[-2:]
    pooled = []
    for index, x1, y1, x2, y2 in rois.double().tolist():
        rows = axis_weights(y1 * scale, y2 * scale, size[0], height, samples, aligned)
        columns = axis_weights(x1 * scale, x2 * scale, size[1], width, samples, aligned)
        pooled.append(rows @ images[int(index)] @ columns.T)
    return torch.stack(pooled)
