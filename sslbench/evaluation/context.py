"""The Context a benchmark runs in: features of one model, and complete records."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import torch
from scipy.stats import binomtest
from torch import nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.benchmark import Benchmark, Data, Features, FeatureSpec, Splits
from sslbench.checkpoints.load import LoadedModel
from sslbench.data.dataset import ImageDataset
from sslbench.data.transform import EvalTransform
from sslbench.errors import RunError, UserError
from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.claims import Holder
from sslbench.evaluation.features import (
    LAYERS,
    Bank,
    OnProgress,
    extract,
    silent,
    warn_dropped,
)
from sslbench.evaluation.provenance import Provenance, library_versions
from sslbench.result import ModelCard, Result

WAIT_SECONDS = 0.5  # between checks of another process
PROPORTIONS = ("top1", "top5")  # metrics of independent hits, which have an interval


@dataclass
class EvalContext:
    """One model with one seed; copies of it share features, so that they are computed once.

    cache: None keeps features only in memory; fresh: ignores cached features;
    on_progress(what, done, total): what is "" for the job as a whole.
    """

    model: LoadedModel
    seed: int
    device: torch.device
    provenance: Provenance
    cache: FeatureCache | None = None
    on_progress: OnProgress = silent
    work_dir: Path = Path()
    cancelled: Event = field(default_factory=Event)
    fresh: bool = False
    _banks: dict[str, Bank] = field(default_factory=dict, repr=False)
    _loaded: set[str] = field(default_factory=set, repr=False)  # banks that came from the cache
    _failed: dict[str, UserError] = field(default_factory=dict, repr=False)
    _used: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False, repr=False)

    def features(self, backbone: Backbone, data: Splits, part: str, spec: FeatureSpec) -> Features:
        """See `Context.features`; `backbone` must be the model's own, whose hash is the key."""
        if backbone is not self.model.backbone:
            raise ValueError("features are cached by the model's hash: ask for its own backbone")
        name, bank = self._bank(data, part, spec.cls_normed)
        if name in self._loaded:
            self._used[part] = bank.origin
        return bank.select(spec)

    def has_features(self, data: Splits, part: str, cls_normed: bool) -> bool:
        """Whether `features` need not compute those of `part`."""
        key = self._key(data, part, cls_normed)
        cached = self.cache is not None and not self.fresh and self.cache.has(key)
        return repr(key) in self._banks or cached

    def head(self) -> nn.Module | None:
        """See `Context.head`."""
        return self.model.head

    def progress(self, done: int, total: int) -> None:
        """See `Context.progress`."""
        self.on_progress("", done, total)

    def forget(self) -> None:
        """Free the memory of the features; the cache on disk stays."""
        self._banks.clear()

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
        """See `Context.result`; `seconds` is filled in by the suite."""
        return Result(
            model=model or self.model.card,
            benchmark=benchmark.name,
            version=benchmark.version,
            dataset=data.name,
            dataset_fingerprint=data.fingerprint,
            split=data.split,
            setting=setting,
            pool=getattr(benchmark.protocol, "pool", ""),
            metric=metric,
            value=value,
            n=n,
            protocol=self.protocol(benchmark, data),
            seed=self.seed,
            interval=wilson(value, n) if metric in PROPORTIONS and not missing else None,
            code_version=self.provenance.code_version,
            versions={**self.provenance.versions, **library_versions(benchmark.libraries)},
            hardware=self.provenance.hardware,
            date=now(),
            missing=missing,
            features=self._elsewhere() if isinstance(data, Splits) else {},
        )

    def _elsewhere(self) -> dict[str, Any]:
        """Return part -> provenance of features that this command did not compute.

        Only entries that differ from the record's own provenance.
        """
        current = asdict(self.provenance)
        return {
            part: {name: value for name, value in origin.items() if current.get(name) != value}
            for part, origin in sorted(self._used.items())
        }

    def protocol(self, benchmark: Benchmark, data: Data) -> dict[str, Any]:
        """Return the benchmark's protocol, after a round trip through JSON, with the model's input.

        The protocol of a dense benchmark already states the image size.
        """
        model_input: dict[str, Any] = {"mean": self.model.mean, "std": self.model.std}
        config = getattr(self.model.backbone, "config", None)
        if isinstance(config, BackboneConfig):  # equal weights can be read in different ways
            model_input["backbone"] = config.reading
        if isinstance(data, Splits):
            model_input["image_size"] = self.model.image_size
            model_input["crop_ratio"] = self.model.crop_ratio or data.test.crop_ratio
            model_input |= EvalTransform.of(self.model, data.test).later
            if self.model.interpolation != "bicubic":
                model_input["interpolation"] = self.model.interpolation
        return json.loads(json.dumps({**asdict(benchmark.protocol), **model_input}))

    def _key(self, data: Splits, part: str, cls_normed: bool) -> dict[str, Any]:
        """Everything that the bank of one part depends on."""
        dataset = {"train": data.train, "test": data.test}[part]
        transform = EvalTransform.of(self.model, dataset)
        return {
            "weights": self.model.card.sha256,
            "backbone": repr(getattr(self.model.backbone, "config", None)),
            "transform": transform.settings(),
            "layers": LAYERS,
            "cls_normed": cls_normed,
            "data": [data.fingerprint, dataset.fingerprint, len(dataset)],
            "split": data.split if part == "test" else part,
        }

    def _bank(self, data: Splits, part: str, cls_normed: bool) -> tuple[str, Bank]:
        """Return the bank of one part and its name: from memory, the cache, or computed."""
        dataset = {"train": data.train, "test": data.test}[part]
        transform = EvalTransform.of(self.model, dataset)
        key = self._key(data, part, cls_normed)
        name = repr(key)
        if name in self._failed:  # so that not every job of a model reads a broken set again
            raise self._failed[name]
        if name not in self._banks:
            self._banks[name], loaded = self._load_or_extract(key, dataset, transform)
            if loaded:
                self._loaded.add(name)
        return name, self._banks[name]

    def _load_or_extract(
        self, key: Mapping[str, Any], dataset: ImageDataset, transform: EvalTransform
    ) -> tuple[Bank, bool]:
        """Return the bank, and whether it was loaded from the cache and not computed here."""
        if self.cache is None or self.fresh:
            return self._extract(key, dataset, transform), False
        if (bank := self._load(key)) is None:
            with self.cache.exclusive(key, self._wait_for):
                if (bank := self._load(key)) is None:
                    return self._extract(key, dataset, transform), False
        return bank, True

    def _wait_for(self, other: Holder) -> None:
        self.on_progress(f"waiting for the features that {other} computes", 0, 0)
        if self.cancelled.wait(WAIT_SECONDS):
            raise RunError("the evaluation was interrupted; repeat the command to continue it.")

    def _load(self, key: Mapping[str, Any]) -> Bank | None:
        bank = self.cache.get(key) if self.cache else None
        if bank is not None:
            warn_dropped("cached features", bank.dropped)
        return bank

    def _extract(
        self, key: Mapping[str, Any], dataset: ImageDataset, transform: EvalTransform
    ) -> Bank:
        if dataset.labels is None or not len(dataset):
            raise UserError(f"{dataset.name!r} has no labelled images; the benchmarks need some.")
        what = f"features of {dataset.name} {key['split']}"
        start = time.perf_counter()
        try:
            bank = extract(
                self.model.backbone,
                dataset,
                transform,
                key["cls_normed"],
                self.device,
                lambda done, total: self.on_progress(what, done, total),
            )
        except UserError as error:
            self._failed[repr(key)] = error
            raise
        seconds = round(time.perf_counter() - start, 2)
        if dataset.changed():
            raise UserError(
                f"the images of {dataset.name} {key['split']} were changed while they were read, "
                "so their features are not valid; repeat the command when nothing writes there."
            )
        origin = {**asdict(self.provenance), "seconds": seconds, "date": now()}
        bank = replace(bank, origin=origin)
        if self.cache:
            self.cache.put(key, bank)
        return bank


def now() -> str:
    """Return the current time (UTC) in the format of records."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def wilson(percent: float, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share of n in percent, in percent (Wilson, 1927)."""
    interval = binomtest(round(percent * n / 100), n).proportion_ci(0.95, method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)
