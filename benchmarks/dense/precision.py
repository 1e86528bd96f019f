"""Mixed precision for mmengine's training loop, on CPUs and GPUs alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from sslbench.errors import UserError, nearest
from sslbench.training.precision import use_bf16

PRECISIONS = ("auto", "bf16", "fp32")


@OPTIM_WRAPPERS.register_module()
class PrecisionOptimWrapper(OptimWrapper):
    """OptimWrapper whose forward passes are autocast to bf16, which needs no gradient scaler.

    precision: "auto" (bf16 where the hardware multiplies it), "bf16" or "fp32". mmengine's own
    AmpOptimWrapper refuses CPUs.
    """

    def __init__(self, precision: str = "auto", **settings: Any) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"unknown precision {precision!r}: {nearest(precision, PRECISIONS)}.")
        super().__init__(**settings)
        self.precision = precision

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device
        bf16 = use_bf16(self.precision, device)
        with (
            super().optim_context(model),
            torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        ):
            yield
