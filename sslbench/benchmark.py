"""The Benchmark contract: one protocol, versioned, run on one backbone.

A benchmark is one class in one file, found through the entry-point group `sslbench.benchmarks`.
Two runs with equal weights, protocol, data and seed give equal records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.data.dataset import ImageDataset
from sslbench.reporting.result import Result


@dataclass(frozen=True)
class FeatureSpec:
    """Which frozen features, (N, D) after pooling and concatenation.

    pool: "cls" = [CLS] of the last `layers` blocks, first to last (all blocks of a shallower
    backbone); "mean" = mean patch token of the last block; "cls+mean" = the former, then the
    latter (`ibot/evaluation/eval_linear.py:183-197`). norm: through the final norm or not.
    """

    layers: int = 1
    pool: str = "cls"
    norm: bool = True


@dataclass(frozen=True)
class Features:
    """x: float32 (N, D) on the CPU, y: int64 (N,), in dataset order."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Splits:
    """A labelled dataset as a benchmark sees it: a bank to learn from and a split to be judged on.

    train and test are map-style datasets of (PIL image, label); `split` names the judged one;
    `fingerprint` covers both.
    """

    name: str
    fingerprint: str
    classes: Sequence[str]
    train: ImageDataset
    test: ImageDataset
    split: str = "test"


class Context(Protocol):
    """What the engine offers a benchmark while it runs."""

    seed: int
    device: torch.device

    def features(self, backbone: Backbone, data: Splits, part: str, spec: FeatureSpec) -> Features:
        """Features of `part` ("train" or "test"), from the shared cache where they exist."""
        ...

    def head(self) -> nn.Module | None:
        """The method's (B, D) -> (B, K) head for the [CLS] token, where the source has one."""
        ...

    def result(
        self, benchmark: Benchmark, data: Splits, setting: str, metric: str, value: float, n: int
    ) -> Result:
        """A complete record of one number: provenance, versions, hardware and time are filled in.

        Accuracies are given in percent; their 95 % Wilson interval is added from n.
        """
        ...


class Benchmark:
    """Base class of evaluation protocols.

    name: as typed on the command line; version: changes whenever a number could move;
    suites: the suites it belongs to; Protocol: frozen dataclass of every choice that moves the
    number, with a field `pool` where frozen features are used.
    main: (setting, metric) pairs shown by the default table, in order.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    suites: ClassVar[tuple[str, ...]] = ("full",)
    Protocol: ClassVar[type]
    main: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init__(self, protocol: Any = None) -> None:
        self.protocol = protocol if protocol is not None else self.Protocol()

    def run(self, backbone: Backbone, data: Splits, context: Context) -> list[Result]:
        raise NotImplementedError
