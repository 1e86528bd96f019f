"""Stands in for `mmcv._ext`, mmcv's compiled operators, on torchvision's kernels (CPU and CUDA).

The functions have the compiled ones' names and arguments (onedl-mmcv 2.3.6,
`mmcv/ops/csrc/pytorch/pybind.cpp`): outputs are tensors that the caller made and the operator
fills. Half precisions are computed in float32. Every operator that is not here can be imported
(`mmcv.ops` imports all of them) and says that it is missing when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from sslbench.errors import UserError

AVERAGE = 1  # pool_mode; 0 is the maximum


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices (int64) of the boxes that greedy suppression keeps, by descending score.

    boxes: (N, 4) as x1, y1, x2, y2; scores: (N,); a box goes where its IoU with a better one that
    stays is above `iou_threshold`; offset: 0, or 1 where widths are x2 - x1 + 1 (whole pixels).
    """
    corners = _full(boxes)
    if offset:
        corners = corners + corners.new_tensor([0, 0, offset, offset])
    dtype = torch.promote_types(corners.dtype, scores.dtype)  # ranks must survive
    return torch.ops.torchvision.nms(corners.to(dtype), scores.to(dtype), iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills output (K, C, aligned_height, aligned_width) with the bins' averages.

    input: (B, C, H, W); rois: (K, 5) as image index, x1, y1, x2, y2 in pixels of the image, which
    `spatial_scale` takes to those of the input; sampling_ratio: samples a bin and axis, 0 = one a
    pixel; aligned: shift by half a pixel; the argmax tensors stay as they are. UserError for the
    maximum (pool_mode 0).
    """
    _check_average(pool_mode)
    images = _full(input)
    size = (aligned_height, aligned_width)
    pooled = torch.ops.torchvision.roi_align(
        images, rois.to(images.dtype), spatial_scale, *size, sampling_ratio, aligned
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Adds to grad_input (B, C, H, W) what grad_output (K, C, height, width) sends back."""
    _check_average(pool_mode)
    sent = _full(grad_output)
    size = (aligned_height, aligned_width)
    grad_input += torch.ops.torchvision._roi_align_backward(
        sent, rois.to(sent.dtype), spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned
    )


def get_compiler_version() -> str:
    """What mmcv's report of its environment prints."""
    return "none (stand-in on torchvision)"


def get_compiling_cuda_version() -> str:
    """What mmcv's report of its environment prints."""
    return "none (stand-in on torchvision)"


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """Any other operator: importable, a UserError when called."""
    if name.startswith("_"):  # what Python itself asks a module for
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def operator(*_: Any, **__: Any) -> NoReturn:
        raise _absent(name)

    return operator


def _absent(operator: str) -> UserError:
    return UserError(
        f"mmcv was installed without compiled operators and sslbench brings no {operator!r} of its "
        "own; use a model without it, or build mmcv with a compiler that suits your torch: `pip "
        "install --no-deps --no-build-isolation --no-cache-dir --force-reinstall onedl-mmcv`."
    )


def _check_average(pool_mode: int) -> None:
    if pool_mode != AVERAGE:
        raise _absent("roi_align with pool_mode='max'")


def _full(tensor: Tensor) -> Tensor:
    """At least float32: torchvision's CPU kernels know only that and float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
