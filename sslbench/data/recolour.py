"""The looks of whole batches on any device, so that workers only decode and crop.

The same changes as `colours.Look` makes of one crop on the CPU, in float32 and cut off to uint8
after each, as PIL does: both equal PIL's up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sslbench.data.colours import BRIGHTNESS, CONTRAST, HUE, SATURATION, blur_kernel
from sslbench.method import ViewBatch
from sslbench.system.device import sent

GREY = (19595 / 65536, 38470 / 65536, 7471 / 65536)  # of red, green and blue in PIL's "L"


def finished(batch: ViewBatch, looks: Mapping[str, Tensor]) -> ViewBatch:
    """The batch with the looks that its views have left for later: name -> (V, B, 12), on the CPU.

    The crops stay where they are.
    """
    crops = dict(batch.crops)
    for name, rows in looks.items():
        flat = recoloured(crops[name].flatten(0, 1), rows.flatten(0, 1))
        crops[name] = flat.view_as(crops[name])
    return replace(batch, crops=crops)


def recoloured(crops: Tensor, rows: Tensor) -> Tensor:
    """Crops uint8 (N, 3, H, W) after their looks, on their device.

    rows: `Look.row` of each crop, float32 (N, 12), on the CPU: which crops a change concerns is
    found there, so that the host need not wait for the device.
    """
    flip, grey, radius, solarise = rows[:, :4].T
    x = crops.clone()
    _apply(x, flip > 0, lambda part, _: part.flip(-1))
    for change, factor in zip(rows[:, 4::2].T, rows[:, 5::2].T, strict=True):
        for number, operation in CHANGES.items():
            _apply(x, change == number, operation, factor[:, None, None, None])
    _apply(x, grey > 0, lambda part, _: _grey(part).expand_as(part))
    _apply(x, radius > 0, _blur, _kernels(radius))
    _apply(x, solarise > 0, lambda part, _: torch.minimum(part, 255 - part))
    return x


def _apply(
    x: Tensor,
    chosen: Tensor,
    operation: Callable[[Tensor, Tensor], Tensor],
    values: Tensor | None = None,
) -> None:
    """Change the chosen crops of `x` in place; values: of each crop, (N, ...) on the CPU.

    operation: of float crops (n, 3, H, W) and their values; what is behind its point is cut off.
    """
    index = chosen.nonzero()[:, 0]
    if len(index):
        given = sent(index if values is None else values[index], x.device)
        index = sent(index, x.device)
        x[index] = operation(x[index].float(), given).to(torch.uint8)


def _blended(x: Tensor, base: Tensor | float, factor: Tensor) -> Tensor:
    return (x - base).mul_(factor).add_(base).clamp_(0, 255)


def _grey(x: Tensor) -> Tensor:
    """The luminance (N, 1, H, W) in whole numbers."""
    red, green, blue = (share * x[:, k : k + 1] for k, share in enumerate(GREY))
    return (red + green + blue + 0.5).floor_()


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    return _blended(x, (_grey(x).mean((1, 2, 3), keepdim=True) + 0.5).floor_(), factor)


def _turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """In PIL's HSV of 256 steps each (`rgb2hsv` and `hsv2rgb` of Pillow's Convert.c)."""
    top, spread = x.amax(1), x.amax(1) - x.amin(1)
    red, green, blue = ((top - channel) / spread.clamp(min=1) for channel in x.unbind(1))
    hue = torch.where(x[:, 1] == top, 2 + red - blue, 4 + green - red)
    hue = torch.where(x[:, 0] == top, blue - green, hue)
    hue = torch.where(spread > 0, (hue / 6 + 1).remainder(1), 0.0)
    hue = ((255 * hue).floor() + (255 * turns[:, 0]).trunc()).remainder(256) * (6 / 255)
    saturation = (255 * spread / top.clamp(min=1)).floor() / 255
    # a channel falls from the top by the saturation, depending on its distance on the circle
    phases = torch.stack([(hue + shift).remainder(6) for shift in (5, 3, 1)], dim=1)
    fall = torch.minimum(phases, 4 - phases).clamp(0, 1)
    return top[:, None] * (1 - saturation[:, None] * fall) + 0.5


def _kernels(radius: Tensor) -> Tensor:
    """The kernels of N radii, float32 (N, K), the shorter ones with zeros around."""
    kernels = [blur_kernel(r) if r else blur_kernel(1.0) for r in radius.tolist()]
    most = max(map(len, kernels))
    out = torch.zeros(len(kernels), most)
    for row, kernel in zip(out, kernels, strict=True):
        start = (most - len(kernel)) // 2
        row[start : start + len(kernel)] = torch.from_numpy(kernel)
    return out


def _blur(x: Tensor, kernels: Tensor) -> Tensor:
    (n, channels, height, width), half = x.shape, kernels.shape[1] // 2
    weight = kernels.repeat_interleave(channels, 0)[:, None, None]
    x = x.reshape(1, n * channels, height, width)
    x = F.conv2d(F.pad(x, (half, half, 0, 0), "replicate"), weight, groups=n * channels)
    x = F.pad(x, (0, 0, half, half), "replicate")
    x = F.conv2d(x, weight.transpose(-1, -2), groups=n * channels)
    return (x + 0.5).reshape(n, channels, height, width)


CHANGES = {
    BRIGHTNESS: lambda x, factor: _blended(x, 0.0, factor),
    CONTRAST: _contrast,
    SATURATION: lambda x, factor: _blended(x, _grey(x), factor),
    HUE: _turn_hue,
}
