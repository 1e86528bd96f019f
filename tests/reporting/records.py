"""Records as the tests of this room need them."""

from __future__ import annotations

from typing import Any

from sslbench.result import ModelCard, Result

MODEL = set(ModelCard.__dataclass_fields__)


INPUT = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}  # what a model was shown
DENSE = {"pool": "", "setting": "", "protocol": {"config": "small", **INPUT}}


def boxes(method: str = "alpha", value: float = 30.0, **changes: Any) -> Result:
    """A record of a benchmark "boxes" without a pool, on scenes."""
    where = {"benchmark": "boxes", "dataset": "scenes-coco", "dataset_fingerprint": "c1"}
    return record(method, value, **{**DENSE, **where, "metric": "AP^b", **changes})


def masks(method: str = "alpha", value: float = 40.0, **changes: Any) -> Result:
    """A record of a benchmark "masks" without a pool, on other annotations of the scenes."""
    where = {"benchmark": "masks", "dataset": "scenes-ade20k", "dataset_fingerprint": "a1"}
    return record(method, value, **{**DENSE, **where, "metric": "mIoU", **changes})


def record(method: str = "alpha", value: float = 50.0, **changes: Any) -> Result:
    """A record of a trained model, or of a floor where `method` is one; weights follow the seed.

    `changes` go to the model card where it has the field ("seed" is the model's), else to the
    record; "evaluation_seed" is the record's own.
    """
    floor = method in ("random-init", "pixels", "all-background")
    model = {"method": method, "arch": "vit_tiny", "seed": 0}
    if not floor:
        model |= {"recipe": "small", "pretrain_data": "shapes", "epochs": 10.0, "steps": 100}
        model |= {"effective_epochs": 10.0}
    model |= {k: v for k, v in changes.items() if k in MODEL}
    model.setdefault("sha256", f"{method}-{model['recipe'] if not floor else ''}-{model['seed']}")
    fields: dict[str, Any] = {
        "benchmark": "near",
        "version": "1",
        "dataset": "shapes",
        "dataset_fingerprint": "f1",
        "split": "test",
        "setting": "k=20",
        "pool": "cls",
        "metric": "top-1",
        "n": 200,
        "protocol": {"temperature": 0.07, "pool": changes.get("pool", "cls"), **INPUT},
        "date": "2026-01-01T00:00:00",
    }
    fields |= {k: v for k, v in changes.items() if k not in MODEL and k != "evaluation_seed"}
    seed = changes.get("evaluation_seed", 0)
    return Result(model=ModelCard(**model), value=value, seed=seed, **fields)
