"""The Benchmark contract: one protocol, versioned, run on one backbone.

A benchmark is one class in one file, found through the entry-point group `sslbench.benchmarks`.
Two runs with equal weights, protocol, data and seed give equal records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias

from sslbench.backbones.config import UNNORMED
from sslbench.result import ModelCard, Result

if TYPE_CHECKING:  # a benchmark's module is read for its tables, too; without torch
    import torch
    from torch import Tensor, nn

    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel
    from sslbench.data.dataset import ImageDataset
    from sslbench.data.dense import DenseData
    from sslbench.method import Order

PARTS = ("train", "test")  # of `Splits`


@dataclass(frozen=True)
class FeatureSpec:
    """Which frozen features, (N, D) after pooling and concatenation.

    pool: "cls" = [CLS] of the last `layers` blocks, first to last (all blocks of a shallower
    backbone); "mean" = mean patch token of the last block; "mean without norm" = the same before
    the final norm, whatever `norm` says, as iBOT's authors evaluate BEiT (`avgpool_patchtokens` 1
    makes the norm an identity: `ibot/evaluation/eval_knn.py:101-105,147-149`); "cls+mean" = both.
    norm: through the final norm or not. order: of "cls+mean", "blockwise" = all of [CLS], then all
    of the mean patch (`ibot/evaluation/eval_linear.py:183-197`); "interleaved" = channel by
    channel, one block only (`dino/eval_linear.py:166-170`). It matters only for
    loading classifiers that others trained.
    """

    layers: int = 1
    pool: str = "cls"
    norm: bool = True
    order: Order = "blockwise"

    @property
    def normed(self) -> bool:
        """Whether the tokens go through the final norm."""
        return self.norm and self.pool != UNNORMED

    @property
    def cls_normed(self) -> bool:
        """Whether the pass that gives them is the one with [CLS] after the final norm.

        The mean patch alone comes from that pass, too, which gives it after and before the norm.
        """
        return self.norm or self.pool in ("mean", UNNORMED)

    def width(self, backbone: Backbone) -> int:
        """The number D of features, at most: early stages of a Swin have fewer channels."""
        layers = min(self.layers, backbone.depth)
        read = {"cls": layers, "cls+mean": layers + 1}.get(self.pool, 1)
        return read * backbone.embed_dim


@dataclass(frozen=True)
class Features:
    """x: float32 (N, D) on the CPU, y: int64 (N,), in dataset order.

    index: int64 (N,), the position of each row in the dataset; None: every image, in order.
    """

    x: Tensor
    y: Tensor
    index: Tensor | None = None


@dataclass(frozen=True)
class Splits:
    """A labelled dataset as a benchmark sees it: a bank to learn from and a split to evaluate.

    train and test are map-style datasets of (PIL image, label); `split` names the evaluated one;
    `fingerprint` covers both. source, limit: what `open_splits` opened, so that another process can
    open it too; a path is absolute.
    """

    name: str
    fingerprint: str
    classes: Sequence[str]
    train: ImageDataset
    test: ImageDataset
    split: str = "test"
    source: str = ""
    limit: int | None = None


Data: TypeAlias = "Splits | DenseData"  # what benchmarks read, by their kind


@dataclass(frozen=True)
class Cost:
    """The work of one run of a benchmark, in units whose time can be measured on any machine.

    features: (part, whether [CLS] goes through the final norm) of the frozen features that it
    reads; each is one pass, whose features all benchmarks of a model share; forward, trained:
    further images of the model's size that pass through the backbone, forward alone, and forward
    and backward; flops: floating-point operations outside of the backbone; seconds: what takes as
    long on any machine, e.g. starting processes.
    """

    features: frozenset[tuple[str, bool]] = frozenset()
    forward: float = 0.0
    trained: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.forward, self.trained, self.flops, self.seconds)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError(f"{self} has a number that is negative or not finite")
        if not {part for part, _ in self.features} <= set(PARTS):
            raise ValueError(f"{self} names parts that are none of {', '.join(PARTS)}")

    @classmethod
    def reading(cls, *specs: FeatureSpec, parts: Sequence[str] = PARTS, flops: float = 0.0) -> Cost:
        """Reading the frozen features of `specs`, and `flops` besides."""
        passes = frozenset((part, spec.cls_normed) for part in parts for spec in specs)
        return cls(passes, flops=flops)


class Context(Protocol):
    """What the engine offers a benchmark while it runs.

    model: what is evaluated; work_dir: a folder for this job alone (weights, protocol, data and
    seed), created by the benchmark that needs it; cancelled: set when the suite ends early; then
    end your processes and raise.
    """

    seed: int
    device: torch.device
    model: LoadedModel
    work_dir: Path
    cancelled: Event

    def features(self, backbone: Backbone, data: Splits, part: str, spec: FeatureSpec) -> Features:
        """Features of `part` ("train" or "test"), from the shared cache where they exist."""
        ...

    def head(self) -> nn.Module | None:
        """The method's (B, D) -> (B, K) head for the [CLS] token, if the source has one."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Reports how far the job is."""
        ...

    def result(
        self,
        benchmark: Benchmark,
        data: Data,
        setting: str,
        metric: str,
        value: float,
        n: int,
        model: ModelCard | None = None,
        missing: str = "",
    ) -> Result:
        """A complete record of one number: provenance, versions, hardware and time are filled in.

        Accuracies are given in percent; their 95 % Wilson interval is added from n. model: a
        stand-in without `source` that is no model, e.g. a floor that only needs the data. missing:
        a sentence that says why there is no number, which then is NaN and a blank in tables.
        """
        ...


class Benchmark:
    """Base class of evaluation protocols.

    name: as typed on the command line; version: changes whenever a number could move;
    suites: the suites it belongs to; Protocol: frozen dataclass of every choice that moves the
    number, with a field `pool` where frozen features are used.
    main: (setting, metric) pairs shown by the default table, in order.
    directions: metric -> "higher" or "lower" is better; others are never ranked (see `direction`).
    headings: what a paper's table calls a (setting, metric), e.g. "k-NN".
    kind: the data it reads, "images" (Splits), "coco" or "ade20k" (DenseData), or one that a
    package adds (entry-point group `sslbench.data`).
    apart: it works in processes of its own, so several of its jobs run at a time, each in a thread.
    libraries: distributions whose versions its records hold besides the engine's.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    suites: ClassVar[tuple[str, ...]] = ("full",)
    Protocol: ClassVar[type]
    main: ClassVar[tuple[tuple[str, str], ...]] = ()
    directions: ClassVar[Mapping[str, str]] = {}
    headings: ClassVar[Mapping[tuple[str, str], str]] = {}
    kind: ClassVar[str] = "images"
    apart: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()

    def __init__(self, protocol: Any = None) -> None:
        self.protocol = protocol if protocol is not None else self.Protocol()

    @classmethod
    def diagnosis(cls) -> dict[str, tuple[bool, str]]:
        """Its requirements on the installation: name -> (whether it is met, what was found).

        Suites leave the benchmark out where one is not met; `doctor` shows them all.
        """
        return {}

    @classmethod
    def direction(cls, setting: str, metric: str) -> str:
        """Whether "higher" or "lower" values are better; "" where neither is."""
        return cls.directions.get(metric, "")

    def protocols(self, model: LoadedModel, data: Any) -> list[Any]:
        """Every protocol to run `model` with; none where the benchmark does not apply to it.

        By default one per pooling of the model, where the protocol has a pool. A UserError says why
        it does not apply; either way the model's cells stay empty, which is said before anything
        runs.
        """
        if any(f.name == "pool" for f in fields(self.protocol)):
            return [replace(self.protocol, pool=pool) for pool in model.poolings]
        return [self.protocol]

    def under(self, protocol: Any) -> Self:
        """This benchmark set to one of its `protocols`."""
        found = copy(self)
        found.protocol = protocol
        return found

    def configured(self, config: str) -> Self | None:
        """This benchmark set to a config's name or file; None where the config is not for it.

        By default no config is. Raises UserError for a config of its own that cannot be used.
        """
        return None

    @property
    def variant(self) -> str:
        """The part of a job's name that tells its protocols apart: by default the pool."""
        return getattr(self.protocol, "pool", "")

    def cost(self, model: LoadedModel, data: Any) -> Cost | None:
        """The work of `run`, from which the time of a suite is estimated; None where unknown.

        By default the frozen features of both parts where the protocol has a pool, else None.
        """
        pool = getattr(self.protocol, "pool", "")
        norm = getattr(self.protocol, "norm", True)
        return Cost.reading(FeatureSpec(pool=pool, norm=norm)) if pool else None

    def run(self, backbone: Backbone, data: Any, context: Context) -> list[Result]:
        """The records of the protocol; `data` is of the benchmark's kind."""
        raise NotImplementedError
