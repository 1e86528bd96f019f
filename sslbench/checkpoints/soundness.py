"""Whether a tensor of a file can be a weight at all."""

from __future__ import annotations

import torch
from torch import Tensor


def unsound(tensor: Tensor) -> str | None:
    """Why it cannot be a weight, e.g. "is sparse"; None if it can."""
    if tensor.is_meta:
        return "has a shape and no values"
    if tensor.layout is not torch.strided:
        return "is sparse"
    if not tensor.is_floating_point():
        return f"holds {str(tensor.dtype).removeprefix('torch.')} instead of floating-point numbers"
    if not tensor.float().isfinite().all():
        return "holds values that are not finite"
    return None
