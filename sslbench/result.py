"""One measured number with everything needed to trace it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from sslbench.storage.fields import BadRecord, build


@dataclass(frozen=True)
class ModelCard:
    """Which weights were evaluated, and how that is known.

    sha256: computed over the weights themselves; method: "dino", "random-init", "pixels", ...;
    recipe: the config's name; epochs and effective_epochs: 0 where nothing was trained or nobody
    knows; tokens: image tokens that the trained backbone saw, in billions, 0 where unknown;
    source: where the weights came from, as the user wrote it; empty for a stand-in that is no
    model. recipe_digest: of every setting that can move the weights but the seed, "" where unknown;
    settings: those that differ from the installed config called `recipe`, or from the defaults
    where no such config is installed; data_fingerprint: of the pretraining data's content;
    identified: how method, data and epochs are known, one of `IDENTIFIED`; file_sha256: of the
    file, as `sha256sum` prints it; label: the name that the user gave it. started_from: the
    weights that training started from (name, sha256, method, recipe, recipe_digest, steps), {} if
    fresh.
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
    recipe_digest: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    data_fingerprint: str = ""
    identified: str = ""
    file_sha256: str = ""
    label: str = ""
    started_from: dict[str, Any] = field(default_factory=dict)


# How a card knows what its weights are: a run's own card, the SHA-256 of a released file, the
# arguments kept in a checkpoint, the file's name alone (not verified), the user's word ("?as="),
# or not at all ("", also in records written before this field).
IDENTIFIED = ("run", "hash", "checkpoint", "file name", "user", "")


@dataclass(frozen=True)
class Result:
    """An immutable record; `value` is in the metric's own unit (percent for accuracies).

    setting tells records of one benchmark apart ("k=20", "1% labels"); pool names the features;
    interval is a 95 % confidence interval where one is defined; seed is the evaluation's seed.
    missing: why there is no value, which then is NaN (null in JSON). features: where cached
    features come from that were computed elsewhere or earlier: their code_version, versions,
    hardware, seconds and date; {} where this very command computed them.
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
    missing: str = ""
    features: dict[str, Any] = field(default_factory=dict)

    @property
    def protocol_hash(self) -> str:
        return digest({"benchmark": self.benchmark, "version": self.version, **self.protocol})

    def to_json(self) -> str:
        """One short line of JSON: fields that have their default are left out."""
        record = {
            **_non_defaults(self),
            "model": _non_defaults(self.model),
            "protocol_hash": self.protocol_hash,
        }
        record["value"] = None if math.isnan(self.value) else self.value
        return json.dumps(record, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, record: Any) -> Result:
        """Inverse of `to_json` for whatever JSON holds; raises fields.BadRecord, a ValueError."""
        if not isinstance(record, dict):
            raise BadRecord("it is no object with fields")
        values = {k: v for k, v in record.items() if k != "protocol_hash"}
        blank = bool(values.get("missing")) and values.get("value", 0) is None
        result: Result = build(cls, {**values, "value": 0.0} if blank else values)
        if result.missing and not blank:
            raise BadRecord("the field 'missing' says why there is no value, yet there is one")
        return replace(result, value=math.nan) if blank else result


def _non_defaults(item: ModelCard | Result) -> dict[str, Any]:
    """The fields that differ from their default, and those that have none."""
    usual = {f.name: f.default for f in fields(item)}
    usual |= {f.name: f.default_factory() for f in fields(item) if callable(f.default_factory)}
    return {name: value for name, value in asdict(item).items() if value != usual[name]}


def digest(value: Any) -> str:
    """Short stable hash of anything JSON can hold (12 hex digits)."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
