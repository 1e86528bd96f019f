"""What goes between the host and a GPU without either waiting for the other; on a CPU, nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on `device`; the host goes on while it is copied.

    Only page-locked memory is copied so; a tensor that is there already is not copied into it.
    """
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def chosen(x: Tensor, rows: Tensor) -> Tensor:
    """The rows (R, ...) of x; rows: int64 (R,) on the CPU, so that their number is known there."""
    return x.index_select(0, sent(rows, x.device))


def free_to_read(tensor: Tensor) -> bool:
    """Whether the host reads its values without waiting for a device."""
    return tensor.device.type == "cpu"


class Late:
    """A number of a device that is read later, when it has long been copied to the host."""

    def __init__(self, number: Tensor) -> None:
        """number: 0-dim."""
        self._copy = number.to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event() if number.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def read(self) -> float:
        if self._copied is not None:
            self._copied.synchronize()
        return float(self._copy)
