"""What goes between the host and a GPU without either waiting for the other; on a CPU, nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

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


@contextmanager
def aside(device: torch.device) -> Iterator[Callable[[Tensor], Tensor]]:
    """A context whose work overlaps on a GPU with what comes after it; on a CPU it is as any other.

    It yields a function that gives its results to what comes after: called there with each of them,
    it lets the device wait, not the host. What goes in must live until then.
    """
    if device.type != "cuda":
        yield lambda result: result
        return
    usual, second = torch.cuda.current_stream(device), _second_stream(device)

    def awaited(result: Tensor) -> Tensor:
        usual.wait_stream(second)
        result.record_stream(usual)  # or its memory would be free as soon as the second is
        return result

    second.wait_stream(usual)  # for what goes in
    with torch.cuda.stream(second):
        yield awaited


@cache
def _second_stream(device: torch.device) -> torch.cuda.Stream:
    """The same one in every step: the memory that a stream has freed is for itself alone."""
    return torch.cuda.Stream(device)
