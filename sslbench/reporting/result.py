"""One measured number with everything needed to trace it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class ModelCard:
    """Which weights were judged.

    sha256 is over the weights themselves; method is "dino", "random-init", "pixels", ...;
    recipe is the config's name; epochs and effective_epochs are 0 where nothing was trained;
    tokens: image tokens that the trained backbone saw, in billions, 0 where unknown; source says
    where the weights came from and is empty for a stand-in that is no model.
    """

    sha256: str
    method: str
    arch: str
    recipe: str = ""
    pretrain_data: str = ""
    epochs: float = 0.0
    effective_epochs: float = 0.0
    tokens: float = 0.0
    steps: int = 0
    seed: int | None = None
    source: str = ""


@dataclass(frozen=True)
class Result:
    """An immutable record; `value` is in the metric's own unit (percent for accuracies).

    setting tells records of one benchmark apart ("k=20", "1% labels"); pool names the features;
    interval is a 95 % confidence interval where one is defined; seed is the evaluation's seed.
    """

    model: ModelCard
    benchmark: str
    version: str
    dataset: str
    dataset_fingerprint: str
    split: str
    setting: str
    pool: str
    metric: str
    value: float
    n: int
    protocol: dict[str, Any]
    seed: int = 0
    interval: tuple[float, float] | None = None
    code_version: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    hardware: str = ""
    seconds: float = 0.0
    date: str = ""

    @property
    def protocol_hash(self) -> str:
        return digest({"benchmark": self.benchmark, "version": self.version, **self.protocol})

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "protocol_hash": self.protocol_hash}, sort_keys=True)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Result:
        """Inverse of `to_json`; raises KeyError or TypeError when a field is missing or unknown."""
        values = {k: v for k, v in record.items() if k != "protocol_hash"}
        known = {f.name for f in fields(cls)}
        if unknown := set(values) - known:
            raise KeyError(f"unknown fields {sorted(unknown)}")
        values["model"] = ModelCard(**values["model"])
        if values.get("interval") is not None:
            values["interval"] = tuple(values["interval"])
        return cls(**values)


def digest(value: Any) -> str:
    """Short stable hash of anything JSON can hold (12 hex digits)."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
